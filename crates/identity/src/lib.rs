//! Who is who: authorities, keys, certificates, trust and the tokens a newcomer shows before it has a certificate.
//!
//! A trust domain has one [`Authority`]; a process makes its own [`KeyPair`], proves it with a CSR and holds
//! [`Credentials`]. The other side looks up the domain named in the certificate in its [`TrustStore`] and asks only
//! that domain's anchors ([`verify`]): there is no union of roots, so one zone can never speak for another.
#![warn(missing_docs)]

mod authority;
mod certificate;
mod credentials;
mod expect;
mod files;
#[cfg(test)]
mod fixture;
mod issue;
mod key;
mod live;
mod pem;
mod renew;
mod resume;
mod tls;
mod token;
mod token_book;
mod trust;
mod verify;
mod words;

pub use authority::{AUTHORITY_LIFETIME, Authority, AuthorityError, Step};
pub use certificate::Unreadable;
pub use credentials::{Credentials, CredentialsError};
pub use expect::Expect;
pub use issue::{Issue, IssueError, LEAF_LIFETIME};
pub use key::{KeyError, KeyPair};
pub use live::LiveCredentials;
pub use renew::{renew_at, retry_after};
pub use rustls_pki_types::{CertificateDer, UnixTime};
pub use tls::{ClientAuth, client_config, client_config_pinned, server_config};
pub use token::{Secret, Token, TokenKind, TokenTextError};
pub use token_book::{Grant, TOKEN_LIFETIME, TokenBook, TokenError, TokenState, TokenView};
pub use trust::{Anchors, Pin, PinError, TrustError, TrustStore};
pub use verify::{PeerIdentity, VerifyError, peer_identity, verify};
