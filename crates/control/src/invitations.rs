//! Tokens an issuer has handed out: written to disk before anybody learns of a change.

use crate::problem::Refused;
use identity::{Grant, Token, TokenBook, TokenError, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A token book with its file.
pub struct Invitations {
    book: Mutex<TokenBook>,
    path: PathBuf,
}

impl Invitations {
    /// Reads the book, or begins one.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        Ok(Self { book: Mutex::new(TokenBook::load(path)?), path: path.to_owned() })
    }

    /// Makes the token that counts for its subject; unused earlier ones are taken back.
    pub fn issue(&self, grant: Grant) -> Result<Token, TokenError> {
        let now = UnixTime::now();
        self.change(|book| {
            book.revoke_subject(&grant.subject, now);
            book.issue(grant, now)
        })
    }

    /// Uses a token up; answers whom it lets in.
    pub fn redeem(&self, token: &Token) -> Result<String, TokenError> {
        self.change(|book| book.redeem(token, UnixTime::now()))
    }

    /// A refused change is not kept, a kept one is on disk.
    fn change<T>(&self, change: impl FnOnce(&mut TokenBook) -> Result<T, TokenError>) -> Result<T, TokenError> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = book.clone();
        let answer = change(&mut next)?;
        next.save(&self.path)?;
        *book = next;
        Ok(answer)
    }
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self::unavailable(error.to_string())
    }
}
