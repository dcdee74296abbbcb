//! Which server to ask, with which token: flags, then environment, then the contexts file.
//!
//! A token is never an argument: arguments are visible to every user of the machine.

use crate::args::{ContextCommand, GlobalArgs};
use crate::client::{Client, TIMEOUT_DEFAULT};
use crate::exit::{Exit, Failure};
use crate::output::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `~/.config/weft/contexts.yaml`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// The one used unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    /// By name.
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// One server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
}

fn file() -> Result<PathBuf, Failure> {
    let base = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    base.map(|base| base.join("weft").join("contexts.yaml")).ok_or_else(|| {
        Failure::usage("there is no home folder to keep contexts in").hint("give --server and --token-file")
    })
}

impl Contexts {
    fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_saphyr::from_str(&text).map_err(|error| {
                Failure::no(format!("{} cannot be read: {}", path.display(), error.without_snippet()))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::file("read", path, &error)),
        }
    }

    fn save(&self, path: &Path) -> Result<(), Failure> {
        let fail = |error: std::io::Error| Failure::file("write", path, &error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        std::fs::write(path, crate::output::yaml(self)).map_err(fail)
    }

    fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no context is named `{name}`"))
                .hint("`weft context list` shows them, `weft context add NAME URL TOKENFILE` adds one")
        })
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Given {
    Nowhere,
    Environment,
    Flag,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Choice {
    Server,
    Context,
}

/// A flag is stronger than the environment; two flags contradict each other; of two variables the more exact one holds.
fn choose(server: Given, context: Given) -> Result<Choice, Failure> {
    match (server, context) {
        (Given::Flag, Given::Flag) => {
            Err(Failure::usage("--server and --context name two servers").hint("give one of them"))
        }
        (Given::Nowhere, _) | (Given::Environment, Given::Flag) => Ok(Choice::Context),
        (Given::Flag | Given::Environment, _) => Ok(Choice::Server),
    }
}

/// The server that these flags mean.
pub fn client(args: &GlobalArgs) -> Result<Client, Failure> {
    let given = |value: &Option<String>, variable: &str| match value {
        None => Given::Nowhere,
        value if std::env::var(variable).ok() == *value => Given::Environment,
        _ => Given::Flag,
    };
    let (server, token_file) = match choose(given(&args.server, "WEFT_SERVER"), given(&args.context, "WEFT_CONTEXT"))? {
        Choice::Server => (args.server.clone().unwrap_or_default(), args.token_file.clone()),
        Choice::Context => {
            let contexts = Contexts::load(&file()?)?;
            let name = args.context.as_ref().or(contexts.current.as_ref()).ok_or_else(|| {
                Failure::usage("no control plane is chosen").hint(
                    "give --server URL --token-file FILE, or `weft context add NAME URL TOKENFILE`; \
                         for a mesh of `weft dev`: eval \"$(weft dev env)\"",
                )
            })?;
            let Context { server, token_file } = contexts.get(name)?.clone();
            let inherited = std::env::var_os("WEFT_TOKEN_FILE").map(PathBuf::from);
            let flag = args.token_file.clone().filter(|path| Some(path) != inherited.as_ref());
            (server, flag.or(token_file))
        }
    };
    let token = token_file.map(|path| token(&path)).transpose()?;
    let limit = args.timeout.map_or(TIMEOUT_DEFAULT, Duration::from);
    Ok(Client::new(&server, token)?.with_timeout(limit))
}

/// Reads a token from its file.
pub fn token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure { exit: Exit::Denied, ..Failure::file("read the token in", path, &error) }
            .hint("a control plane keeps it in admin.token of its data folder")
    })?;
    match text.trim() {
        "" => Err(Failure::new(Exit::Denied, format!("{} holds no token", path.display()))),
        token if token.contains(char::is_whitespace) => {
            Err(Failure::new(Exit::Denied, format!("{} holds something else than one token", path.display())))
        }
        token => Ok(token.to_owned()),
    }
}

/// `weft context`
pub fn run(command: ContextCommand) -> Result<Exit, Failure> {
    let path = file()?;
    let mut contexts = Contexts::load(&path)?;
    match command {
        ContextCommand::List => {
            let mut table = Table::new(["", "NAME", "SERVER", "TOKEN FILE"]);
            for (name, Context { server, token_file }) in &contexts.contexts {
                let mark = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
                let token = token_file.as_ref().map_or_else(|| "-".into(), |path| path.display().to_string());
                table.row([mark.to_owned(), name.clone(), server.clone(), token]);
            }
            if table.is_empty() {
                eprintln!("none yet; `weft context add NAME URL TOKENFILE` adds one to {}", path.display());
            } else {
                table.print();
            }
        }
        ContextCommand::Use { name } => {
            contexts.get(&name)?;
            contexts.current = Some(name);
            contexts.save(&path)?;
        }
        ContextCommand::Add { name, url, token } => {
            let server = Client::new(&url, None)?.server().to_owned();
            let token_file = token.map(|path| std::path::absolute(&path).unwrap_or(path));
            contexts.contexts.insert(name.clone(), Context { server, token_file });
            contexts.current.get_or_insert(name);
            contexts.save(&path)?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_holds_one_token() {
        let folder = std::env::temp_dir().join(format!("weft-context-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("token");
        for (text, expect) in [("abc\n", Some("abc")), ("", None), ("a b", None)] {
            std::fs::write(&path, text).unwrap();
            let read = token(&path);
            assert_eq!(read.as_deref().ok(), expect);
            if let Err(failure) = read {
                assert_eq!(failure.exit, Exit::Denied);
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(token(&path).unwrap_err().exit, Exit::Denied);
    }

    #[test]
    fn a_flag_is_stronger_than_the_environment() {
        use Given::*;
        for (server, context, choice) in [
            (Nowhere, Nowhere, Choice::Context),
            (Environment, Nowhere, Choice::Server),
            (Environment, Environment, Choice::Server),
            (Environment, Flag, Choice::Context),
            (Flag, Environment, Choice::Server),
            (Flag, Nowhere, Choice::Server),
            (Nowhere, Flag, Choice::Context),
        ] {
            assert_eq!(choose(server, context).unwrap(), choice, "{server:?} {context:?}");
        }
        assert_eq!(choose(Flag, Flag).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn contexts_survive_a_write() {
        let folder = std::env::temp_dir().join(format!("weft-contexts-{}", std::process::id()));
        let path = folder.join("weft/contexts.yaml");
        let mut contexts = Contexts::load(&path).unwrap();
        let context = Context { server: "http://127.0.0.1:5680".into(), token_file: Some("/x/admin.token".into()) };
        contexts.contexts.insert("here".into(), context);
        contexts.current = Some("here".into());
        contexts.save(&path).unwrap();
        let again = Contexts::load(&path).unwrap();
        assert_eq!(again.get("here").unwrap().server, "http://127.0.0.1:5680");
        assert_eq!(again.get("there").unwrap_err().exit, Exit::NotFound);
        std::fs::write(&path, "curent: here\n").unwrap();
        assert!(Contexts::load(&path).unwrap_err().text().contains("curent"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
