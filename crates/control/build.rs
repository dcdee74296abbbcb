//! Copies the page from `web/dist` to where the compiler embeds it. Never runs npm: without a built page, a plain one
//! takes its place, unless WEFT_GUI_REQUIRED is set (as releases do).

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const PLAIN: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Weft</title>\
<h1>Weft</h1><p>This control plane was built without its page. The API is at <code>/api/v1</code>, its description at \
<code>/openapi.json</code>.</p><p>To have the page: <code>npm ci &amp;&amp; npm run build</code> in <code>web/</code>, \
then build again.</p></html>\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../web/dist");
    println!("cargo:rerun-if-env-changed=WEFT_GUI_REQUIRED");
    let from = Path::new("../../web/dist");
    let to = PathBuf::from(env::var("OUT_DIR")?).join("web");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    fs::create_dir_all(&to)?;
    if from.join("index.html").is_file() {
        copy(from, &to)?;
    } else if env::var_os("WEFT_GUI_REQUIRED").is_some() {
        return Err("web/dist is missing; run `npm ci && npm run build` in web/".into());
    } else {
        fs::write(to.join("index.html"), PLAIN)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
