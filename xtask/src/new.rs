//! `cargo xtask new policy NAME`: a folder with a spec, an example and a first case, and one line in the list.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;

const LIST: &str = "crates/policy/src/lib.rs";
/// Before this line of the list new kinds are put: inbound kinds stay last.
const BEFORE: &str = "    authorization: Authorization is inbound,\n";

/// Writes the files and says what to do next.
pub fn policy(name: &str) -> Result<()> {
    let words = words(name)?;
    let module = words.join("_");
    let plural = format!("{}s", words.concat());
    let folder = Path::new("crates/policy/src").join(&module);
    if folder.exists() {
        bail!("{} is there already", folder.display());
    }
    let list = fs::read_to_string(LIST)?;
    let (before, after) =
        list.split_once(BEFORE).with_context(|| format!("{LIST} has no `policies!` list to add to"))?;
    let fill = |template: &str| template.replace("@NAME@", name).replace("@PLURAL@", &plural);
    fs::create_dir_all(folder.join("cases"))?;
    fs::write(folder.join("mod.rs"), fill(include_str!("../templates/policy/mod.rs.txt")))?;
    fs::write(folder.join("example.yaml"), fill(include_str!("../templates/policy/example.yaml")))?;
    fs::write(folder.join("cases/nothing_given.yaml"), fill(include_str!("../templates/policy/case.yaml")))?;
    fs::write(LIST, format!("{before}    {module}: {name} is outbound,\n{BEFORE}{after}"))?;
    println!("wrote {0}/mod.rs, example.yaml, cases/nothing_given.yaml, and one line in {LIST}", folder.display());
    println!("next: 1. the spec's fields and `check` in mod.rs");
    println!("      2. `lower`: into fields of api::config (add them there if proxies need a new ability)");
    println!("      3. cases; `UPDATE=1 cargo test -p policy` writes their answers: read the diff");
    Ok(())
}

/// `CircuitBreaker` to `["circuit", "breaker"]`.
fn words(name: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            words.push(c.to_ascii_lowercase().into());
        } else if let (true, Some(word)) = (c.is_ascii_lowercase() || c.is_ascii_digit(), words.last_mut()) {
            word.push(c);
        } else {
            bail!("`{name}` is not a kind: write it in PascalCase, such as CircuitBreaker");
        }
    }
    if words.is_empty() {
        bail!("a kind needs a name, such as CircuitBreaker");
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_pascal_case() {
        assert_eq!(words("CircuitBreaker").unwrap(), ["circuit", "breaker"]);
        for bad in ["", "circuitBreaker", "Circuit_Breaker", "circuit-breaker"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
