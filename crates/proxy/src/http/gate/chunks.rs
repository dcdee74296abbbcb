//! The framing of a chunked body: sizes are bounded numbers, lines end in CR LF, extensions and trailers are few.
//!
//! Data is skipped by count. Extensions pass to hyper, which drops them: they never travel further.

use super::head::{Bad, is_token, is_value};
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTRA_BYTES_MAX};

/// Digits of a chunk's size; 15 hexadecimal ones cannot overflow what anybody counts with (1 EiB).
const SIZE_DIGITS_MAX: u32 = 15;

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    /// Digits of a size, so many so far.
    Size { digits: u32 },
    /// Behind a size, in extensions, so many bytes so far.
    Extension { bytes: usize },
    /// Behind the CR of a size line.
    SizeLf,
    /// So many bytes of data left.
    Data,
    /// Behind data.
    DataCr,
    /// Behind data and CR.
    DataLf,
    /// Start of a trailer line.
    Trailer,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// Behind the CR of a trailer.
    TrailerLf,
    /// Behind the CR of the empty line.
    EndLf,
}

/// Follows one chunked body.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    at: At,
    left: u64,
    /// Bytes of extensions and trailers so far.
    extra: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size { digits: 0 }, left: 0, extra: 0 }
    }
}

impl Chunks {
    /// Takes bytes of the body. How many belong to it, and whether that was its end.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Bad> {
        let mut i = 0;
        while i < bytes.len() {
            if self.at == At::Data {
                let count = self.left.min((bytes.len() - i) as u64);
                self.left -= count;
                i += count as usize;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            let byte = bytes[i];
            i += 1;
            if self.step(byte)? {
                return Ok((i, true));
            }
        }
        Ok((i, false))
    }

    fn step(&mut self, byte: u8) -> Result<bool, Bad> {
        self.at = match (self.at, byte) {
            (At::Size { digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                self.left = self.left << 4 | u64::from((byte as char).to_digit(16).ok_or(Bad::Chunk)?);
                At::Size { digits: digits + 1 }
            }
            (At::Size { digits: 1.. }, b';') => self.extra(At::Extension { bytes: 1 })?,
            (At::Size { digits: 1.. } | At::Extension { .. }, b'\r') => At::SizeLf,
            (At::Extension { bytes }, _) if is_value(byte) && bytes < CHUNK_EXTENSION_BYTES_MAX => {
                self.extra(At::Extension { bytes: bytes + 1 })?
            }
            (At::SizeLf, b'\n') if self.left == 0 => At::Trailer,
            (At::SizeLf, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { digits: 0 },
            (At::Trailer, b'\r') => At::EndLf,
            (At::Trailer | At::TrailerName, _) if is_token(byte) => self.extra(At::TrailerName)?,
            (At::TrailerName, b':') => self.extra(At::TrailerValue)?,
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerValue, _) if is_value(byte) => self.extra(At::TrailerValue)?,
            (At::TrailerLf, b'\n') => At::Trailer,
            (At::EndLf, b'\n') => return Ok(true),
            _ => return Err(Bad::Chunk),
        };
        Ok(false)
    }

    fn extra(&mut self, next: At) -> Result<At, Bad> {
        self.extra += 1;
        if self.extra > CHUNK_EXTRA_BYTES_MAX { Err(Bad::Chunk) } else { Ok(next) }
    }
}
