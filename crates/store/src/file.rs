//! The embedded store: one file, one process, one thread that owns it.
//!
//! redb blocks for the disk, so a thread of its own does the work and answers by channel. Writes that wait at the same
//! time share one commit; each is still answered only when that commit is on disk.

mod tables;
mod worker;

use crate::changes::follow;
use crate::{CHANGES_MAX, Expect, Lineage, Listing, Result, Store, StoreError, Watch, document};
use api::{Key, Object};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};
use worker::{Answer, Order, Write};

/// Orders waiting for the disk; whoever comes later waits to hand its order in.
const ORDERS_MAX: usize = 256;

/// Objects in a file. Dropping it closes the file.
#[derive(Debug)]
pub struct File {
    place: String,
    /// `None` only while dropping.
    orders: Option<mpsc::Sender<Order>>,
    head: watch::Receiver<Lineage>,
    thread: Option<JoinHandle<()>>,
}

impl File {
    /// Opens the file, or makes it (mode 0600) with a new history.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::keeping(path, CHANGES_MAX).await
    }

    /// As [`File::open`], with `changes_max` changes kept for watches.
    pub async fn keeping(path: &Path, changes_max: usize) -> Result<Self> {
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let (opened, answer) = oneshot::channel();
        let place = path.display().to_string();
        let owned: PathBuf = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker::run(&owned, changes_max, waiting, opened))
            .map_err(|error| StoreError::Unusable { place: place.clone(), detail: error.to_string() })?;
        // The worker answers first thing; it can only fail to by a panic over a file it cannot make sense of.
        let head = answer.await.map_err(|_| StoreError::corrupt(&place, "it cannot be read"))??;
        Ok(Self { place, orders: Some(orders), head, thread: Some(thread) })
    }

    async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T> {
        let gone = || StoreError::Unavailable { place: self.place.clone(), detail: "its thread ended".into() };
        let (answer, answered) = oneshot::channel();
        let orders = self.orders.as_ref().expect("only dropping takes it");
        orders.send(order(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.orders = None;
        // Waits for at most one commit, so that whoever opens the file next finds it closed.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for File {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn lineage(&self) -> Result<Lineage> {
        Ok(*self.head.borrow())
    }

    async fn list(&self) -> Result<Listing> {
        self.ask(Order::List).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let key = key.to_string();
        self.ask(|answer| Order::Get(key, answer)).await
    }

    async fn put(&self, key: &Key, object: Object, expect: Expect) -> Result<u64> {
        let bytes = document::encode(key, object)?;
        let write = Write { key: key.clone(), text: key.to_string(), bytes: Some(bytes), expect };
        self.ask(|answer| Order::Write(write, answer)).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<u64> {
        let write = Write { key: key.clone(), text: key.to_string(), bytes: None, expect };
        self.ask(|answer| Order::Write(write, answer)).await
    }

    async fn watch(&self, after: u64) -> Result<Watch> {
        let head = self.head.clone();
        self.ask(|answer| Order::Since(after, answer)).await?;
        // Weak: a watcher somebody forgot must not keep the file open.
        let orders = self.orders.as_ref().expect("only dropping takes it").downgrade();
        let read = move |after| {
            let orders = orders.clone();
            Box::pin(async move {
                let (answer, answered) = oneshot::channel();
                orders.upgrade()?.send(Order::Since(after, answer)).await.ok()?;
                answered.await.ok()
            }) as _
        };
        Ok(follow(after, head, Box::new(read)))
    }

    async fn restore(&self, lineage: Lineage, objects: Vec<(Key, Object)>) -> Result<()> {
        let encoded = objects.into_iter().map(|(key, object)| {
            let revision = document::restored_revision(&object, lineage);
            Ok((key.to_string(), revision, document::encode(&key, object)?))
        });
        let encoded = encoded.collect::<Result<Vec<_>>>()?;
        self.ask(|answer| Order::Restore(lineage, encoded, answer)).await
    }
}
