//! The thread that owns the file: takes orders, commits writes together, and opens the file again after the disk failed.

use super::tables::{self, Restored};
use crate::{Change, Expect, Lineage, Listing, Result, StoreError};
use api::{Key, Object};
use redb::Database;
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

/// Writes that share a commit. More would make the first wait longer than a second fsync would take.
const BATCH_MAX: usize = 64;

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub enum Order {
    List(Answer<Listing>),
    Get(String, Answer<Option<Object>>),
    /// Some changes after a revision.
    Since(u64, Answer<Vec<Change>>),
    Write(Write, Answer<u64>),
    Restore(Lineage, Vec<Restored>, Answer<()>),
}

/// One object to write, or without bytes to delete.
#[derive(Debug)]
pub struct Write {
    pub key: Key,
    pub text: String,
    pub bytes: Option<Vec<u8>>,
    pub expect: Expect,
}

struct Worker {
    path: PathBuf,
    changes_max: usize,
    /// `None` after a failure, until it could be opened again.
    database: Option<Database>,
    head: watch::Sender<Lineage>,
}

/// Opens the file, says how that went, and works until nobody can order any more.
pub fn run(
    path: &Path,
    changes_max: usize,
    mut orders: mpsc::Receiver<Order>,
    opened: oneshot::Sender<Result<watch::Receiver<Lineage>>>,
) {
    let (database, lineage) = match tables::open(path) {
        Ok(open) => open,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let (head, follower) = watch::channel(lineage);
    // Whoever opened it may have gone; then the orders have ended, too.
    let _ = opened.send(Ok(follower));
    let mut worker = Worker { path: path.to_owned(), changes_max, database: Some(database), head };
    while let Some(first) = orders.blocking_recv() {
        let mut writes = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Write(write, answer) => {
                    writes.push((write, answer));
                    next = if writes.len() < BATCH_MAX { orders.try_recv().ok() } else { None };
                }
                other => {
                    // In the order they came: a read sees the writes before it.
                    worker.write(std::mem::take(&mut writes));
                    worker.answer(other);
                }
            }
        }
        worker.write(writes);
    }
}

impl Worker {
    /// Nobody waits for an answer whose asker was cancelled, so sending one may fail.
    fn answer(&mut self, order: Order) {
        match order {
            Order::List(answer) => drop(answer.send(self.with(tables::list))),
            Order::Get(key, answer) => drop(answer.send(self.with(|path, database| tables::get(path, database, &key)))),
            Order::Since(after, answer) => {
                drop(answer.send(self.with(|path, database| tables::since(path, database, after))));
            }
            Order::Restore(lineage, objects, answer) => {
                let restored = self.with(|path, database| tables::restore(path, database, lineage, &objects));
                if restored.is_ok() {
                    self.head.send_replace(lineage);
                }
                drop(answer.send(restored));
            }
            Order::Write(write, answer) => self.write(vec![(write, answer)]),
        }
    }

    /// One commit for all; when that fails, one for each, so that nobody fails for a neighbour.
    fn write(&mut self, writes: Vec<(Write, Answer<u64>)>) {
        if writes.is_empty() {
            return;
        }
        let (writes, answers): (Vec<Write>, Vec<Answer<u64>>) = writes.into_iter().unzip();
        let outcomes = match self.commit(&writes) {
            Ok(outcomes) => outcomes,
            Err(error) if writes.len() == 1 => vec![Err(error)],
            Err(_) => writes.chunks(1).map(|one| self.commit(one).and_then(only)).collect(),
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            drop(answer.send(outcome));
        }
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Result<u64>>> {
        let before = *self.head.borrow();
        let changes_max = self.changes_max;
        match self.with(|path, database| tables::write(path, database, before.revision, writes, changes_max)) {
            Ok((revision, outcomes)) => {
                self.announce(Lineage { revision, ..before });
                Ok(outcomes)
            }
            Err(error) if self.head.borrow().revision == before.revision => Err(error),
            // The last step of the commit failed, yet it is found when the file is opened again.
            Err(error) => Err(StoreError::Unavailable {
                place: self.path.display().to_string(),
                detail: format!("{error} (this write may have happened all the same)"),
            }),
        }
    }

    fn announce(&self, lineage: Lineage) {
        self.head.send_if_modified(|head| std::mem::replace(head, lineage) != lineage);
    }

    /// Works on the open file. redb refuses everything after a failed write, so the file is then opened anew, which
    /// brings back the last commit.
    fn with<T>(&mut self, work: impl FnOnce(&Path, &Database) -> Result<T>) -> Result<T> {
        if self.database.is_none() {
            self.reopen()?;
        }
        let database = self.database.as_ref().expect("just opened");
        let worked = work(&self.path, database);
        if let Err(StoreError::Full { .. } | StoreError::Unusable { .. } | StoreError::Corrupt { .. }) = &worked {
            // Closed before it is opened, as the file is locked while open.
            self.database = None;
            if let Err(error) = self.reopen() {
                warn!(path = %self.path.display(), %error, "the store cannot be opened again; the next use tries again");
            }
        }
        worked
    }

    fn reopen(&mut self) -> Result<()> {
        let (database, lineage) = tables::open(&self.path)?;
        self.database = Some(database);
        self.announce(lineage);
        Ok(())
    }
}

fn only(mut outcomes: Vec<Result<u64>>) -> Result<u64> {
    outcomes.pop().expect("one write has one outcome")
}
