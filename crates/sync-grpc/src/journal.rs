//! A follower's durable copy: an append-only file of transactions, rewritten when it has grown.
//!
//! ```text
//! file   = "WEFTSYNC" version:u32le record*
//! record = length:u32le checksum:u64le body            checksum: FNV-1a of the body
//! body   = 'S' delta ack    everything held and refused; what came before does not count
//!        | 'T' delta ack    one transaction on top
//!        | 'A' lineage      an operator adopted this lineage
//! ```
//! `delta`, `ack` and `lineage` are the protocol's messages, length-delimited. A record counts when it is whole. The
//! first one that is not ends the file: what comes before it is a state that once held, and the publisher sends the
//! rest again.

use crate::limits::{JOURNAL_RECORD_MAX, JOURNAL_REWRITE_FACTOR, JOURNAL_REWRITE_MIN};
use crate::wire;
use api::sync_v1 as proto;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use sync::{Absence, Cursor, Delta, Kept, Lineage, Replica, Transaction, hash_of};

const MAGIC: &[u8; 8] = b"WEFTSYNC";
const VERSION: u32 = 1;
const HEADER: usize = MAGIC.len() + size_of::<u32>();
const RECORD_HEADER: usize = size_of::<u32>() + size_of::<u64>();

/// Why a durable copy could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("journal {}: {action} failed: {source}; is the disk full or read-only?", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What it answered.
        #[source]
        source: io::Error,
    },
    /// A later release wrote it.
    #[error("journal {} was written by a newer version (format {found}, known is {known}); upgrade this program", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// It is something else.
    #[error("{} is no journal; move it away to begin with an empty one", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The transaction does not fit a record.
    #[error("journal {}: a transaction of {bytes} bytes is larger than a record may be", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// End of the last whole record; whatever follows is debris.
    end: u64,
    debris: bool,
    /// Size after which the file is rewritten.
    rewrite_at: u64,
    flush: Flush,
}

/// When a transaction counts as kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flush {
    /// When the disk has it: it outlives a power cut.
    Disk,
    /// When the kernel has it: it outlives the process, and the kernel writes it in its own time.
    Kernel,
}

impl Journal {
    /// Opens or creates the file and replays it.
    pub(crate) fn open(path: &Path, absence: Absence, flush: Flush) -> Result<(Self, Replica), JournalError> {
        let failed = |action| move |source| JournalError::Io { path: path.to_owned(), action, source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed("opening"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("reading"))?;
        let (kept, end) = match header(&bytes) {
            Header::Known => replay(&bytes),
            Header::Torn => (Kept::default(), 0),
            Header::Newer(found) => {
                return Err(JournalError::Newer { path: path.to_owned(), found, known: VERSION });
            }
            Header::Foreign => return Err(JournalError::Foreign { path: path.to_owned() }),
        };
        let debris = end != bytes.len();
        if debris && end > 0 {
            let lost = bytes.len() - end;
            tracing::warn!(path = %path.display(), lost, "journal ends in a torn record, which will come again");
        }
        let replica = Replica::restore(absence, kept);
        let mut journal =
            Self { path: path.to_owned(), file, end: end as u64, debris, rewrite_at: JOURNAL_REWRITE_MIN, flush };
        if end == 0 {
            journal.rewrite(&replica.kept())?;
        }
        Ok((journal, replica))
    }

    /// Writes one transaction; returns when it counts as kept.
    pub(crate) fn append(&mut self, transaction: &Transaction) -> Result<(), JournalError> {
        let Transaction { upto, lineage, compared, set, removed, rejects } = transaction.clone();
        let delta = Delta { from: Cursor::default(), upto, lineage, compared, part: 0, last: true, set, removed };
        self.write(&record(b'T', wire::delta(delta), rejects_of(rejects)))
    }

    /// Writes down that an operator adopted a lineage.
    pub(crate) fn append_adoption(&mut self, lineage: Lineage) -> Result<(), JournalError> {
        let mut body = vec![b'A'];
        wire::lineage(lineage).encode_length_delimited(&mut body).expect("a vector grows");
        self.write(&body)
    }

    /// Whether an append waits for the disk.
    pub(crate) fn waits(&self) -> bool {
        self.flush == Flush::Disk
    }

    /// Whether a snapshot would be worth its cost.
    pub(crate) fn has_grown(&self) -> bool {
        self.end > self.rewrite_at
    }

    /// Puts a snapshot in the place of everything written so far. When it fails, the old file still stands.
    pub(crate) fn rewrite(&mut self, kept: &Kept) -> Result<(), JournalError> {
        // Should this fail, do not try again at once.
        self.rewrite_at = self.end.saturating_mul(2).max(JOURNAL_REWRITE_MIN);
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let Kept { cursor, lineage, items, rejects } = kept.clone();
        if let Some(lineage) = lineage {
            let set = items.into_iter().collect();
            let delta = Delta {
                from: Cursor::default(),
                upto: cursor,
                lineage,
                compared: true,
                part: 0,
                last: true,
                set,
                removed: Vec::new(),
            };
            bytes.extend(self.framed(&record(b'S', wire::delta(delta), rejects_of(rejects)))?);
        }
        let fresh = self.path.with_extension("new");
        let file = replace(&self.path, &fresh, &bytes).map_err(|source| JournalError::Io {
            path: self.path.clone(),
            action: "rewriting",
            source,
        })?;
        self.file = file;
        self.end = bytes.len() as u64;
        self.debris = false;
        self.rewrite_at = self.end.saturating_mul(JOURNAL_REWRITE_FACTOR).max(JOURNAL_REWRITE_MIN);
        Ok(())
    }

    fn framed(&self, body: &[u8]) -> Result<Vec<u8>, JournalError> {
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= JOURNAL_RECORD_MAX);
        let length = length.ok_or_else(|| JournalError::TooLarge { path: self.path.clone(), bytes: body.len() })?;
        let mut bytes = Vec::with_capacity(RECORD_HEADER + body.len());
        bytes.extend(length.to_le_bytes());
        bytes.extend(hash_of(body).to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    fn write(&mut self, body: &[u8]) -> Result<(), JournalError> {
        let bytes = self.framed(body)?;
        self.try_write(&bytes).map_err(|source| {
            self.debris = true;
            JournalError::Io { path: self.path.clone(), action: "writing", source }
        })?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.debris {
            self.file.set_len(self.end)?;
            self.debris = false;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(bytes)?;
        match self.flush {
            Flush::Disk => self.file.sync_data(),
            Flush::Kernel => Ok(()),
        }
    }

    /// Puts another file under the journal, such as one that is always full.
    #[cfg(test)]
    pub(crate) fn swap_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}

/// Temporary file, fsync, rename, fsync of the folder: after a crash there is the old file or the new one.
fn replace(path: &Path, fresh: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn rejects_of(rejects: Vec<sync::Reject>) -> proto::Ack {
    proto::Ack { upto: None, rejects: wire::rejects(rejects) }
}

fn record(kind: u8, delta: proto::Delta, ack: proto::Ack) -> Vec<u8> {
    let mut body = vec![kind];
    delta.encode_length_delimited(&mut body).expect("a vector grows");
    ack.encode_length_delimited(&mut body).expect("a vector grows");
    body
}

enum Header {
    Known,
    /// Cut short while it was first written, or new.
    Torn,
    Newer(u32),
    Foreign,
}

fn header(bytes: &[u8]) -> Header {
    let Some((magic, rest)) = bytes.split_first_chunk() else {
        return if MAGIC.starts_with(bytes) { Header::Torn } else { Header::Foreign };
    };
    match (magic == MAGIC, rest.first_chunk().copied().map(u32::from_le_bytes)) {
        (false, _) => Header::Foreign,
        (true, None) => Header::Torn,
        (true, Some(VERSION)) => Header::Known,
        (true, Some(found)) => Header::Newer(found),
    }
}

/// What the whole records say, and where they end.
fn replay(bytes: &[u8]) -> (Kept, usize) {
    let mut replica = Replica::new(Absence::Follow);
    let mut end = HEADER;
    while let Some((body, next)) = next_record(bytes, end) {
        if step(&mut replica, body).is_none() {
            break;
        }
        end = next;
    }
    (replica.kept(), end)
}

fn next_record(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = rest.get(..length)?;
    (hash_of(body) == u64::from_le_bytes(*checksum)).then_some((body, at + RECORD_HEADER + length))
}

/// Understands all of a record before it changes anything.
fn step(replica: &mut Replica, body: &[u8]) -> Option<()> {
    let (kind, mut rest) = body.split_first()?;
    match kind {
        b'A' => {
            let lineage = proto::Lineage::decode_length_delimited(&mut rest).ok()?;
            replica.adopt(wire::read_lineage(Some(lineage)).ok()?);
        }
        b'S' | b'T' => {
            let delta = wire::read_delta(proto::Delta::decode_length_delimited(&mut rest).ok()?).ok()?;
            let ack = proto::Ack::decode_length_delimited(&mut rest).ok()?;
            let Delta { upto, lineage, compared, set, removed, .. } = delta;
            let rejects = wire::read_rejects(ack.rejects);
            if *kind == b'S' {
                *replica = Replica::new(Absence::Follow);
            }
            replica.apply(Transaction { upto, lineage, compared, set, removed, rejects });
        }
        _ => return None,
    }
    Some(())
}
