//! What bad input meets: running control planes, tokens in every wrong state, folders nobody can use. And what differs
//! from run to run in messages, so that the rest can be compared word for word.

use crate::scenarios::base::{Base, edit_token};
use crate::scenarios::scene::free;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Everything a case may name.
pub struct Prepared {
    /// Control planes.
    pub base: Base,
    words: BTreeMap<&'static str, String>,
    /// Taken as long as this lives.
    _taken: TcpListener,
}

/// The program of this name, if it is one of ours.
pub fn program(name: &str) -> Result<&'static str> {
    let known = ["weft", "weft-global-cp", "weft-zone-cp", "weft-dataplane", "weft-gateway"];
    known.into_iter().find(|known| *known == name).with_context(|| format!("`{name}` is no program of ours"))
}

impl Prepared {
    /// Starts and lays out everything.
    pub async fn new() -> Result<Self> {
        let base = Base::new("input").await?;
        let taken = TcpListener::bind(("127.0.0.1", 0))?;
        let mut words = BTreeMap::new();
        words.insert("taken", taken.local_addr()?.to_string());
        words.insert("global", format!("http://{}", base.at.global_api));
        words.insert("west", format!("http://{}", base.at.west_api));
        words.insert("global-data", base.scene.path("global").display().to_string());
        words.insert("west-data", base.scene.path("west").display().to_string());
        words.insert("token", base.scene.path("global/admin.token").display().to_string());
        words.insert("west-token", base.scene.path("west/admin.token").display().to_string());
        let mut this = Self { base, words, _taken: taken };
        this.documents().await?;
        this.tokens().await?;
        this.folders()?;
        Ok(this)
    }

    /// A document that is there, for conflicts.
    async fn documents(&self) -> Result<()> {
        let spec = json!({"to": [{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": "1s"}}]});
        let object = json!({"apiVersion": api::API_VERSION, "kind": "Timeout", "spec": spec,
            "metadata": {"name": "there", "namespace": "shop"}});
        let path = "/resources/timeouts/default/shop/there";
        self.base.global.send(http::Method::PUT, path, Some(&object), &[]).await?;
        let body = json!({"mesh": "default", "namespace": "shop", "name": "there", "spec": {"address": "127.0.0.1"}});
        self.base.west.post("/workloads", &body).await?;
        Ok(())
    }

    async fn tokens(&mut self) -> Result<()> {
        let global = &self.base.global;
        let text = |answer: &Value| answer["token"].as_str().map(str::to_owned).context("a token");
        let open = text(&global.post("/zones", &json!({"name": "north"})).await?)?;
        let revoked = text(&global.post("/zones", &json!({"name": "south"})).await?)?;
        global.post("/zones/south/token", &json!({})).await?;
        let body = json!({"mesh": "default", "namespace": "shop", "name": "web", "spec": {"address": "127.0.0.1"}});
        let workload = text(&self.base.west.post("/workloads", &body).await?)?;
        self.base.joined("used").await?;
        let used = std::fs::read_to_string(self.base.scene.path("used.token"))?;
        self.base.enrolled("used-workload", json!({"address": "127.0.0.1"})).await?;
        let used_workload = std::fs::read_to_string(self.base.scene.path("used-workload.token"))?;
        let other_pin = |wire: &mut Value| {
            let pin = wire["p"].as_str().unwrap_or_default();
            let last = if pin.ends_with('0') { "1" } else { "0" };
            wire["p"] = format!("{}{last}", &pin[..pin.len().saturating_sub(1)]).into();
        };
        let all = [
            ("open-token", open.clone()),
            ("used-token", used),
            ("revoked-token", revoked),
            ("ended-token", self.base.ended.clone()),
            ("renamed-token", edit_token(&open, |wire| wire["n"] = "west".into())?),
            ("foreign-token", edit_token(&open, |wire| wire["i"] = "00000000000000aa".into())?),
            ("guessed-token", edit_token(&open, |wire| wire["s"] = "A".repeat(43).into())?),
            ("pinned-elsewhere-token", edit_token(&open, other_pin)?),
            ("workload-pinned-elsewhere-token", edit_token(&workload, other_pin)?),
            ("nowhere-token", edit_token(&open, |wire| wire["a"] = json!(["127.0.0.1:9"]))?),
            ("cut-token", open[..open.len() - 40].to_owned()),
            ("workload-token", workload.clone()),
            ("used-workload-token", used_workload),
            ("renamed-workload-token", edit_token(&workload, |wire| wire["n"] = "default/shop/there".into())?),
        ];
        for (name, token) in all {
            let path = self.base.scene.secret(name, &token, None)?;
            self.words.insert(name, path.display().to_string());
        }
        Ok(())
    }

    fn folders(&mut self) -> Result<()> {
        let make = |name: &str| -> Result<PathBuf> {
            let path = self.base.scene.path("folders").join(name);
            std::fs::create_dir_all(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
            Ok(path)
        };
        let format = |name: &str, text: &str| -> Result<PathBuf> {
            let path = make(name)?;
            std::fs::write(path.join("format"), text)?;
            Ok(path)
        };
        let newer_store = format("newer-store", "weft-global-cp 1\n")?;
        write_newer_store(&newer_store.join("store"))?;
        let damaged_store = format("damaged-store", "weft-global-cp 1\n")?;
        std::fs::write(damaged_store.join("store"), "this is no store")?;
        let all = [
            ("closed-folder", make("closed")?),
            ("newer-folder", format("newer", "weft-global-cp 99\n")?),
            ("newer-proxy-folder", format("newer-proxy", "weft-dataplane 99\n")?),
            ("other-folder", format("other", "weft-zone-cp 1\n")?),
            ("damaged-folder", format("damaged", "?\n")?),
            ("newer-store", newer_store),
            ("damaged-store", damaged_store),
        ];
        for (name, path) in all {
            self.words.insert(name, path.display().to_string());
        }
        Ok(())
    }

    /// Replaces `{words}`; `{free}` is a new free address each time, `{new}` a new folder.
    pub fn fill(&self, word: &str) -> Result<String> {
        let Some((before, rest)) = word.split_once('{') else { return Ok(word.to_owned()) };
        let (name, after) = rest.split_once('}').context("a word in braces")?;
        let filled = match name {
            "free" => free()?.to_string(),
            "new" => "data".to_owned(),
            _ => self.words.get(name).cloned().with_context(|| format!("nothing was prepared as `{name}`"))?,
        };
        Ok(format!("{before}{filled}{after}"))
    }

    /// URL and token file of a control plane.
    pub fn control(&self, name: &str) -> Result<(&str, &str)> {
        let token = if name == "global" { "token" } else { "west-token" };
        Ok((self.words.get(name).context("global or west")?, &self.words[token]))
    }

    /// What was printed, without what differs from run to run.
    pub fn steady(&self, text: &str, folder: &Path) -> String {
        let mut text = text.replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), ".");
        for (name, value) in [("global", self.base.at.global_api), ("west", self.base.at.west_api)] {
            text = text.replace(&value.to_string(), &format!("{{{name}}}"));
        }
        text = text.replace(&self.base.scene.path("").display().to_string(), "$DIR/");
        let digit = |c: char| c.is_ascii_digit();
        let hexadecimal = |c: char| c.is_ascii_hexdigit();
        for (before, what, instead) in [
            ("127.0.0.1:", &digit as &dyn Fn(char) -> bool, "PORT"),
            ("(pid ", &digit, "PID"),
            ("token ", &hexadecimal, "ID"),
            ("was used ", &digit, "N"),
            ("at revision ", &digit, "N"),
            ("request ", &hexadecimal, "ID"),
            ("the root ", &hexadecimal, "PIN"),
            ("history ", &digit, "N"),
        ] {
            text = mask(&text, before, what, instead);
        }
        text
    }
}

/// Replaces what follows `before`, where it is long enough to be a number and not a word.
fn mask(text: &str, before: &str, what: &dyn Fn(char) -> bool, instead: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        out.push_str(head);
        let length = tail.find(|c| !what(c)).unwrap_or(tail.len());
        let is_number = tail[..length].contains(|c: char| c.is_ascii_digit());
        if is_number {
            out.push_str(instead);
        }
        rest = if is_number { &tail[length..] } else { tail };
    }
    out + rest
}

/// A store as a version of the future would leave it.
fn write_newer_store(path: &Path) -> Result<()> {
    let database = redb::Database::create(path)?;
    let transaction = database.begin_write()?;
    let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    transaction.open_table(meta)?.insert("format", 99)?;
    Ok(transaction.commit()?)
}
