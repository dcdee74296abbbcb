//! Facts about the file: a kill at any moment, a full disk, another process, a newer version, damage.

#![allow(clippy::unwrap_used)] // clippy knows tests by their attribute, not the functions they share

use api::{Key, Object};
use futures_util::StreamExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use store::{Expect, File, Store, StoreError};

/// Names the file to a child process of these tests.
const PATH_VARIABLE: &str = "WEFT_TEST_STORE_FILE";
/// Kills; each at another moment.
const ROUNDS: usize = 20;
/// Objects the killed process writes over and over.
const KEYS: usize = 40;

fn key(name: &str) -> Key {
    format!("Timeout/default/-/shop/{name}").parse().unwrap()
}

/// An object whose size depends on `n` and whose parts can be told to belong together.
fn object(name: &str, n: usize) -> Object {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "weft.dev/v1", "kind": "Timeout",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "n": n, "fill": n.to_string().repeat(n % 1500) },
    }))
    .unwrap()
}

/// `n` of an object that is whole.
fn whole(object: &Object) -> usize {
    let n = usize::try_from(object.spec["n"].as_u64().unwrap()).unwrap();
    assert_eq!(object.spec["fill"].as_str().unwrap(), n.to_string().repeat(n % 1500), "torn");
    n
}

/// This test program again, to run one of the `child_` tests below.
fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    // Ignored here, SIGXFSZ stays ignored in the program, which then sees the limit as an error.
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(PATH_VARIABLE, path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn child_path() -> Option<std::path::PathBuf> {
    std::env::var_os(PATH_VARIABLE).map(Into::into)
}

#[tokio::test]
#[ignore = "runs as a child process of what_was_acknowledged_survives_a_kill_at_any_moment"]
async fn child_writes_until_killed() {
    let Some(path) = child_path() else { return };
    let store = std::sync::Arc::new(File::open(&path).await.unwrap());
    let first = usize::try_from(store.lineage().await.unwrap().revision).unwrap();
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (first + writer..).step_by(4) {
                let name = format!("k{}", n % KEYS);
                let revision = store.put(&key(&name), object(&name, n), Expect::Any).await.unwrap();
                // One write(2) per line, so that a line is whole or missing.
                std::io::stderr().write_all(format!("acked {revision} {name} {n}\n").as_bytes()).unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Lets a child write, kills it once it has acknowledged `count` writes, and returns all it acknowledged.
fn write_and_kill(path: &Path, count: usize) -> Vec<(u64, String, usize)> {
    let mut child = child("child_writes_until_killed", path).spawn().unwrap();
    let mut acked = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let ["acked", revision, name, n] = words[..] else { panic!("the child says: {line}") };
        acked.push((revision.parse().unwrap(), name.to_owned(), n.parse().unwrap()));
        if acked.len() == count {
            // SIGKILL, to `sh`'s process, which has become the test program. What it said before is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acked
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut history = None;
    let mut newest: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    for round in 0..ROUNDS {
        // From the first write on, in strides that share no factor with anything.
        let acked = write_and_kill(&path, 1 + round * 7 % 53);
        assert!(!acked.is_empty());
        for (revision, name, n) in acked {
            let entry = newest.entry(name).or_default();
            *entry = (*entry).max((revision, n));
        }

        let store = File::open(&path).await.unwrap();
        let lineage = store.lineage().await.unwrap();
        assert_eq!(*history.get_or_insert(lineage.history), lineage.history);
        let listing = store.list().await.unwrap();
        assert_eq!(listing.revision, lineage.revision);
        for (name, (revision, n)) in &newest {
            let found = store.get(&key(name)).await.unwrap().expect("acknowledged");
            let found_at = found.metadata.revision.unwrap();
            assert!(found_at >= *revision, "{name} was acknowledged at {revision}, and is at {found_at}");
            // Something newer may have been written whose acknowledgement was cut off.
            assert!(found_at > *revision || whole(&found) == *n);
        }
        for object in &listing.objects {
            whole(object);
            assert!(object.metadata.revision.unwrap() <= lineage.revision);
        }
        // The log of changes agrees with the objects, without a gap.
        let begin = lineage.revision.saturating_sub(500);
        let mut watch = store.watch(begin).await.unwrap();
        for revision in begin + 1..=lineage.revision {
            assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
        }
    }
}

#[tokio::test]
#[ignore = "runs as a child process of a_full_disk_is_said_and_harms_nothing"]
async fn child_fills_the_disk() {
    let Some(path) = child_path() else { return };
    let store = std::sync::Arc::new(File::open(&path).await.unwrap());
    let fill = |n: usize| {
        let mut object = object("big", n);
        object.spec["fill"] = "x".repeat(100_000).into();
        object
    };
    store.put(&key("first"), object("first", 5), Expect::Any).await.unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, std::fs::metadata(&path).unwrap().len() + 500_000, hard).unwrap();

    let mut acked = Vec::new();
    let refused = loop {
        let name = format!("big{}", acked.len());
        match store.put(&key(&name), fill(acked.len()), Expect::Any).await {
            Ok(revision) => acked.push((name, revision)),
            Err(error) => break error,
        }
        assert!(acked.len() < 1000, "the limit does not work");
    };
    let folder = path.parent().unwrap().display();
    assert_eq!(refused.to_string(), format!("the disk is full: nothing was written; free space in {folder}"));
    // Still readable, with everything that was acknowledged and nothing else ...
    let check = async |store: &File| {
        let listing = store.list().await.unwrap();
        assert_eq!(listing.objects.len(), acked.len() + 1);
        assert_eq!(store.lineage().await.unwrap().revision, acked.last().map_or(1, |(_, revision)| *revision));
        for (name, revision) in &acked {
            assert_eq!(store.get(&key(name)).await.unwrap().unwrap().metadata.revision, Some(*revision));
        }
    };
    check(&store).await;
    // ... for as long as it lasts, also with many writers ...
    let writers = (0..8).map(|n| {
        let (store, object) = (store.clone(), fill(n));
        tokio::spawn(async move { store.put(&key(&format!("more{n}")), object, Expect::Any).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        assert!(matches!(writer.await.unwrap(), Err(StoreError::Full { .. })));
    }
    check(&store).await;
    // ... and usable as soon as there is room.
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    let begin = store.lineage().await.unwrap().revision;
    let mut watch = store.watch(begin).await.unwrap();
    let revision = store.put(&key("after"), object("after", 1), Expect::Absent).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
    drop((store, watch));
    let store = File::open(&path).await.unwrap();
    assert_eq!(store.list().await.unwrap().objects.len(), acked.len() + 2);
    eprintln!("survived a full disk");
}

#[test]
fn a_full_disk_is_said_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = child("child_fills_the_disk", &folder.path().join("store.redb")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("survived a full disk"), "{said}");
}

#[tokio::test]
async fn a_file_in_use_is_refused_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let first = File::open(&path).await.unwrap();
    let mut forgotten = first.watch(0).await.unwrap();
    let refused = File::open(&path).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("the store {} is in use by another process; stop it or choose another with --store", path.display())
    );
    drop(first);
    File::open(&path).await.expect("closed when dropped, whoever still watches");
    assert!(forgotten.next().await.is_none());
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(File::open(&path).await.unwrap());
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
        transaction.commit().unwrap();
    }
    let refused = File::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 2, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let content = "dear diary, ".repeat(1000);
    std::fs::write(&path, &content).unwrap();
    let refused = File::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}

#[tokio::test]
async fn a_missing_folder_is_said_with_the_path() {
    let refused = store::open("file:/nowhere/weft/store.redb").await.err().expect("refused");
    assert!(refused.to_string().starts_with("cannot use the store /nowhere/weft/store.redb: "), "{refused}");
}

#[tokio::test]
async fn a_new_file_is_for_its_owner_only_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let _store = File::open(&path).await.unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(metadata.len() <= 4 * 1024 * 1024, "{} bytes", metadata.len());
}
