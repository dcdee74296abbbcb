//! What stands in the file: objects, the last changes, and three numbers. Each function is one transaction.

use super::worker::Write;
use crate::changes::REPLAY;
use crate::{Change, Lineage, Listing, Result, StoreError, document, new_history};
use api::Object;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Key text to revision of the last change and JSON.
const OBJECTS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("objects");
/// Revision to key text and JSON, or `None` for a deletion. Contiguous up to the present revision.
const CHANGES: TableDefinition<u64, (&str, Option<&[u8]>)> = TableDefinition::new("changes");
/// The numbers below.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const HISTORY: &str = "history";
const REVISION: &str = "revision";

/// Format of the tables this program writes, and the newest it reads.
const FORMAT_KNOWN: u64 = 1;
/// redb's page cache. Readers keep objects in memory themselves; a control plane may use 30 MiB in all.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Objects may hold what an operator would not show everybody.
const FILE_MODE: u32 = 0o600;

/// Key text, revision and JSON of an object from a backup.
pub type Restored = (String, u64, Vec<u8>);

/// Opens the file, or makes it with a new history; refuses what a newer version wrote.
pub fn open(path: &Path) -> Result<(Database, Lineage)> {
    let unusable = |error| failure(path, redb::Error::Io(error));
    let is_new = !path.try_exists().map_err(unusable)?;
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = builder.create_file(file.map_err(unusable)?).map_err(|error| failure(path, error))?;
    let lineage = match read_lineage(path, &database)? {
        Some(lineage) => lineage,
        None => begin(&database).map_err(|error| failure(path, error))?,
    };
    if is_new {
        // The new name in its folder is durable once the folder is.
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    }
    Ok((database, lineage))
}

/// `None` in a file that was just made.
fn read_lineage(path: &Path, database: &Database) -> Result<Option<Lineage>> {
    let read = || -> std::result::Result<_, redb::Error> {
        let meta = match database.begin_read()?.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let number = |name| meta.get(name).map(|found| found.map(|number| number.value()));
        Ok(Some((number(FORMAT)?, number(HISTORY)?, number(REVISION)?)))
    };
    let place = || path.display().to_string();
    match read().map_err(|error| failure(path, error))? {
        None => Ok(None),
        Some((Some(found), ..)) if found > FORMAT_KNOWN => {
            Err(StoreError::Newer { place: place(), found, known: FORMAT_KNOWN })
        }
        Some((Some(_), Some(history), Some(revision))) => Ok(Some(Lineage { history, revision })),
        Some(_) => Err(StoreError::corrupt(&place(), "it does not say which history it holds")),
    }
}

fn begin(database: &Database) -> std::result::Result<Lineage, redb::Error> {
    let lineage = Lineage { history: new_history(), revision: 0 };
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(CHANGES)?;
    write_lineage(&transaction, lineage)?;
    transaction.commit()?;
    Ok(lineage)
}

fn write_lineage(transaction: &WriteTransaction, lineage: Lineage) -> std::result::Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(FORMAT, FORMAT_KNOWN)?;
    meta.insert(HISTORY, lineage.history)?;
    meta.insert(REVISION, lineage.revision)?;
    Ok(())
}

/// Everything.
pub fn list(path: &Path, database: &Database) -> Result<Listing> {
    let place = path.display().to_string();
    let read = || -> std::result::Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let mut objects = Vec::new();
        for entry in transaction.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            let (revision, bytes) = value.value();
            objects.push(document::decode(&place, key.value(), bytes, revision));
        }
        let revision = transaction.open_table(META)?.get(REVISION)?.map_or(0, |revision| revision.value());
        Ok((objects, revision))
    };
    let (objects, revision) = read().map_err(|error| failure(path, error))?;
    Ok(Listing { objects: objects.into_iter().collect::<Result<_>>()?, revision })
}

/// One object.
pub fn get(path: &Path, database: &Database, key: &str) -> Result<Option<Object>> {
    let read = || -> std::result::Result<_, redb::Error> {
        let found = database.begin_read()?.open_table(OBJECTS)?.get(key)?;
        Ok(found.map(|found| {
            let (revision, bytes) = found.value();
            (revision, bytes.to_vec())
        }))
    };
    let found = read().map_err(|error| failure(path, error))?;
    found.map(|(revision, bytes)| document::decode(&path.display().to_string(), key, &bytes, revision)).transpose()
}

/// Up to [`REPLAY`] changes after a revision.
pub fn since(path: &Path, database: &Database, after: u64) -> Result<Vec<Change>> {
    let read = || -> std::result::Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let changes = transaction.open_table(CHANGES)?;
        let head = transaction.open_table(META)?.get(REVISION)?.map_or(0, |revision| revision.value());
        let oldest = changes.first()?.map_or(head, |(first, _)| first.value() - 1);
        if after < oldest || after > head {
            return Ok(None);
        }
        let mut found = Vec::new();
        for entry in changes.range(after + 1..)?.take(REPLAY) {
            let (revision, value) = entry?;
            let (key, bytes) = value.value();
            found.push((revision.value(), key.to_owned(), bytes.map(<[u8]>::to_vec)));
        }
        Ok(Some(found))
    };
    let found = read().map_err(|error| failure(path, error))?.ok_or(StoreError::Compacted { after })?;
    let place = path.display().to_string();
    let change = |(revision, key, bytes): (u64, String, Option<Vec<u8>>)| {
        let object = bytes.map(|bytes| document::decode(&place, &key, &bytes, revision)).transpose()?;
        Ok(Change { revision, key: document::key(&place, &key)?, object })
    };
    found.into_iter().map(change).collect()
}

/// Several writes, in order, durable together. Each has its own outcome; the new revision comes with them.
pub fn write(
    path: &Path,
    database: &Database,
    mut revision: u64,
    writes: &[Write],
    changes_max: usize,
) -> Result<(u64, Vec<Result<u64>>)> {
    let before = revision;
    let mut outcomes = Vec::with_capacity(writes.len());
    let mut commit = || -> std::result::Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut changes = transaction.open_table(CHANGES)?;
        for write in writes {
            let Write { key, text, bytes, expect } = write;
            let present = objects.get(text.as_str())?.map(|found| found.value().0);
            if !expect.holds(present) {
                let current = current(path, &objects, text)?;
                outcomes.push(current.and_then(|current| Err(StoreError::conflict(key, current))));
                continue;
            }
            let bytes = bytes.as_deref();
            if present.is_some() || bytes.is_some() {
                revision += 1;
                match bytes {
                    Some(bytes) => drop(objects.insert(text.as_str(), (revision, bytes))?),
                    None => drop(objects.remove(text.as_str())?),
                }
                changes.insert(revision, (text.as_str(), bytes))?;
            }
            outcomes.push(Ok(revision));
        }
        if revision == before {
            return Ok(());
        }
        let surplus = changes.len()?.saturating_sub(changes_max as u64);
        for _ in 0..surplus {
            changes.pop_first()?;
        }
        transaction.open_table(META)?.insert(REVISION, revision)?;
        drop((objects, changes));
        transaction.commit()?;
        Ok(())
    };
    commit().map_err(|error| failure(path, error))?;
    Ok((revision, outcomes))
}

/// What is there instead of what was expected.
fn current(
    path: &Path,
    objects: &Table<'_, &str, (u64, &[u8])>,
    key: &str,
) -> std::result::Result<Result<Option<Object>>, redb::Error> {
    let found = objects.get(key)?;
    let place = path.display().to_string();
    let decoded = found.map(|found| {
        let (revision, bytes) = found.value();
        document::decode(&place, key, bytes, revision)
    });
    Ok(decoded.transpose())
}

/// Fills an empty store.
pub fn restore(path: &Path, database: &Database, lineage: Lineage, restored: &[Restored]) -> Result<()> {
    let commit = || -> std::result::Result<u64, redb::Error> {
        let transaction = database.begin_write()?;
        let mut objects = transaction.open_table(OBJECTS)?;
        let present = objects.len()?;
        if present > 0 {
            return Ok(present);
        }
        for (key, revision, bytes) in restored {
            objects.insert(key.as_str(), (*revision, bytes.as_slice()))?;
        }
        drop(objects);
        transaction.open_table(CHANGES)?.retain(|_, _| false)?;
        write_lineage(&transaction, lineage)?;
        transaction.commit()?;
        Ok(0)
    };
    match commit().map_err(|error| failure(path, error))? {
        0 => Ok(()),
        present => Err(StoreError::NotEmpty { objects: usize::try_from(present).unwrap_or(usize::MAX) }),
    }
}

/// redb's words as ours.
fn failure(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    let place = path.display().to_string();
    match error.into() {
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                StoreError::Full { place: folder.display().to_string() }
            }
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::corrupt(&place, error),
            _ => StoreError::Unusable { place, detail: error.to_string() },
        },
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        redb::Error::UpgradeRequired(format) => {
            StoreError::corrupt(&place, format!("its file format {format} is older than any Weft wrote"))
        }
        error @ redb::Error::PreviousIo => StoreError::Unusable { place, detail: error.to_string() },
        error => StoreError::corrupt(&place, error),
    }
}
