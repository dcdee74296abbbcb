//! A place for a store under test: opened, restarted and compacted alike, whatever it is.

use api::{Key, Object};
use std::path::PathBuf;
use std::sync::Arc;
use store::{Expect, File, Memory, Store};
use tempfile::TempDir;

/// Changes the stores under test keep for watches; etcd keeps what it is not told to forget.
pub const KEPT: usize = 300;

pub enum Bench {
    Memory,
    File(TempDir),
    #[cfg(feature = "etcd")]
    Etcd(etcd::Server),
}

impl Bench {
    pub fn memory() -> Self {
        Self::Memory
    }

    pub fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    /// Whether a restart keeps anything.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    pub async fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory => Arc::new(Memory::keeping(KEPT)),
            Self::File(folder) => Arc::new(File::keeping(&path(folder), KEPT).await.unwrap()),
            #[cfg(feature = "etcd")]
            Self::Etcd(server) => server.open().await,
        }
    }

    /// Closes the store and opens it again; etcd is killed and started in between.
    pub async fn restart(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        #[cfg(feature = "etcd")]
        if let Self::Etcd(server) = self {
            server.restart();
        }
        self.open().await
    }

    /// Makes the store forget the changes up to its present revision.
    pub async fn forget(&self, store: &dyn Store) {
        #[cfg(feature = "etcd")]
        if let Self::Etcd(server) = self {
            put(store, "last", 0).await;
            return server.compact().await;
        }
        for n in 0..=KEPT {
            put(store, "noise", n).await;
        }
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("store.redb")
}

pub fn key(name: &str) -> Key {
    format!("Timeout/default/-/shop/{name}").parse().unwrap()
}

/// An object that says `n`.
pub fn object(name: &str, n: usize) -> Object {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "weft.dev/v1", "kind": "Timeout",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "n": n },
    }))
    .unwrap()
}

/// What an object says.
pub fn says(object: &Object) -> usize {
    usize::try_from(object.spec["n"].as_u64().unwrap()).unwrap()
}

pub async fn put(store: &dyn Store, name: &str, n: usize) -> u64 {
    store.put(&key(name), object(name, n), Expect::Any).await.unwrap()
}

#[cfg(feature = "etcd")]
pub mod etcd {
    //! A real etcd on loopback, killed at the end.

    use super::Bench;
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use store::{Etcd, Store};
    use tempfile::TempDir;

    const START_MAX: Duration = Duration::from_secs(30);

    pub struct Server {
        program: PathBuf,
        folder: TempDir,
        client_port: u16,
        peer_port: u16,
        child: Mutex<Child>,
    }

    impl Bench {
        /// `None`, said loudly, on a machine without etcd; in CI that is a failure.
        pub async fn etcd(fact: &str) -> Option<Self> {
            let given = std::env::var_os("WEFT_TEST_ETCD").map(PathBuf::from);
            let in_path = || {
                let folders = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&folders).map(|folder| folder.join("etcd")).find(|path| path.is_file())
            };
            let Some(program) = given.or_else(in_path) else {
                assert!(std::env::var_os("CI").is_none(), "no etcd in PATH, and WEFT_TEST_ETCD is not set");
                eprintln!("SKIPPED: {fact} on etcd: no etcd in PATH, and WEFT_TEST_ETCD is not set");
                return None;
            };
            Some(Self::Etcd(Server::start(program)))
        }

        pub fn server(&self) -> &Server {
            match self {
                Self::Etcd(server) => server,
                _ => panic!("not etcd"),
            }
        }
    }

    impl Server {
        fn start(program: PathBuf) -> Self {
            let folder = tempfile::tempdir().unwrap();
            // Both open at once, so that they differ.
            let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let [client_port, peer_port] = free.map(|listener| listener.local_addr().unwrap().port());
            let child = spawn(&program, &folder, client_port, peer_port);
            Self { program, folder, client_port, peer_port, child: Mutex::new(child) }
        }

        pub fn url(&self) -> String {
            format!("http://127.0.0.1:{}", self.client_port)
        }

        /// Kills it as a crash would, and starts it again where it was.
        pub fn restart(&self) {
            let Self { program, folder, client_port, peer_port, child } = self;
            kill(child);
            *child.lock().unwrap() = spawn(program, folder, *client_port, *peer_port);
        }

        pub async fn open(&self) -> Arc<dyn Store> {
            let begun = Instant::now();
            loop {
                match Etcd::connect(&[self.url()]).await {
                    Ok(store) => return Arc::new(store),
                    Err(error) if begun.elapsed() > START_MAX => panic!("etcd does not start: {error}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }

        pub async fn client(&self) -> etcd_client::Client {
            etcd_client::Client::connect([self.url()], None).await.unwrap()
        }

        pub async fn compact(&self) {
            let mut client = self.client().await;
            let present = client.get("any", None).await.unwrap().header().unwrap().revision();
            client.compact(present, None).await.unwrap();
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            kill(&self.child);
        }
    }

    /// By its id; it may already be gone.
    fn kill(child: &Mutex<Child>) {
        let mut child = child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    fn spawn(program: &PathBuf, folder: &TempDir, client_port: u16, peer_port: u16) -> Child {
        let client = format!("http://127.0.0.1:{client_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(folder.path().join("data")).args(["--name", "one"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        // Alone, it need not wait long to elect itself.
        command.args(["--heartbeat-interval", "10", "--election-timeout", "100"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}
