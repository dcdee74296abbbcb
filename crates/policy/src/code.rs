//! Stable codes of everything that can be wrong with a document.

use std::fmt;

macro_rules! codes {
    ($($variant:ident = $code:literal, $about:literal;)*) => {
        /// What kind of mistake a diagnostic is about. The code never changes its meaning.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code { $(#[doc = $about] $variant,)* }

        impl Code {
            /// Every code, for reference pages.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Stable text, such as `W1102`.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $code),* } }

            /// One sentence for people.
            pub const fn about(self) -> &'static str { match self { $(Self::$variant => $about),* } }
        }
    };
}

codes! {
    Syntax = "W1100", "The text is not YAML, so nothing in that document can be read.";
    UnknownField = "W1101", "A field that this kind does not have; it would do nothing, so it is refused.";
    UnknownWord = "W1102", "A word that is not one of the few allowed at this place.";
    WrongType = "W1103", "A value of another type, such as a text where a list is expected.";
    WrongUnit = "W1104", "A duration, share or size without its unit, or with an unknown one.";
    WrongName = "W1105", "A name that cannot become part of a host name.";
    Missing = "W1106", "A field that must be there.";
    UnknownKind = "W1107", "A kind or apiVersion that Weft does not know.";
    WrongTarget = "W1108", "A reference to something that this field cannot refer to.";
    Scope = "W1109", "A namespace on a kind that lives in none.";
    ReservedLabel = "W1110", "A label with the prefix `weft.dev/` that Weft sets itself.";
    OutOfRange = "W1111", "A number or a count outside its limits.";
    Contradiction = "W1112", "A document that reads well and cannot be meant: duplicates, contradictions, empty lists.";
    Duplicate = "W1113", "Two documents of one file with the same identity.";
    TooLarge = "W1114", "A file or document beyond the limits.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
