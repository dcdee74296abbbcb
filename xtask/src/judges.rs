//! `cargo xtask judges install|run|list [NAME...]`: outside conformance suites; the work is done by `weft-judges` of `e2e`.

use crate::suite::Tally;
use crate::{cargo, run, tools};
use anyhow::Result;

/// Builds what judging needs and passes the words on.
pub fn run(flags: &[String]) -> Result<bool> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    if flags.first() != Some(&"run") {
        let mut args = vec!["run", "--quiet", "--package", "e2e", "--bin", "weft-judges", "--"];
        args.extend(flags);
        return cargo::cargo(&args).succeeds();
    }
    // Without the known peer a broken rig is taken for a broken proxy; what is missing then is said by the run.
    let _ = tools::need("haproxy", &["haproxy"]);
    let folder = cargo::build_all(&[])?;
    run::step(&folder.join("weft-judges").to_string_lossy(), &flags).succeeds()
}

/// The cheap ones.
pub fn suite(_: Option<&str>) -> Tally {
    if tools::find("go").is_none() && !std::path::Path::new("/usr/local/go/bin/go").exists() {
        return Tally::skipped("outside judges", "install Go 1.26 or newer (https://go.dev/dl)");
    }
    let _ = tools::need("haproxy", &["haproxy"]);
    crate::test::scenarios("weft-judges", &["run", "--quick"])
}
