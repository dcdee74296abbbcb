//! Apps that know nothing of the mesh: plain HTTP and TCP by name, redirected by nftables.

use super::hostile::{Door, Outsiders};
use super::plain::ELSEWHERE;
use super::report::Report;
use super::scene::until;
use super::world::{HELD_OVER, World};
use crate::row::Row;
use anyhow::{Result, bail};
use cli::dev::up::unsettled;
use http::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const LOCAL: &str = "netns: a plain call by name stays in its zone, over mutual TLS";
const REMOTE: &str = "netns: a zone's own name reaches that zone through its gateway";
const TCP: &str = "netns: bytes of a TCP service arrive, here and in another zone";
const NAMES: &str = "netns: names of the mesh are answered, others asked elsewhere";
const OUTSIDE: &str = "netns: what is no part of the mesh is reached as before";
const STRICT: &str = "netns: plaintext from outside is refused, and taken only while a mesh permits it";
const SLOW: &str = "netns: plaintext from outside that comes too slowly is ended within 10 s";
const KEPT: &str = "netns: redirect up cuts no connection that is there";
const DOWN: &str = "netns: redirect down leaves no rule behind, and up works again";

/// All of them.
pub const FACTS: &[&str] = &[LOCAL, REMOTE, TCP, NAMES, OUTSIDE, STRICT, SLOW, KEPT, DOWN];

/// Calls from which "always" is concluded.
const CALLS: usize = 20;
/// Of each kind.
const SLOW_CONNECTIONS: usize = 50;
/// A policy reaches a proxy in milliseconds; a busy machine may be slow.
const CONVERGED: Duration = Duration::from_secs(5);
/// First numbers of virtual addresses of redirected proxies.
const VIPS: &str = "240.64.";
/// The caller, as every callee must see it.
const CALLER: &str = "spiffe://west.default/ns/shop/sa/web";

/// Looks at them.
pub async fn tell(world: &World, report: &mut Report) -> Result<()> {
    report.fact(KEPT, async |row| kept(world, row).await).await;
    report.fact(LOCAL, async |row| calls(world, row, "cart.shop.mesh", "west")).await;
    report.fact(REMOTE, async |row| calls(world, row, "cart.shop.east.mesh", "east")).await;
    report.fact(TCP, async |row| tcp(world, row)).await;
    report.fact(NAMES, async |row| names(world, row)).await;
    report.fact(OUTSIDE, async |row| outside(world, row).await).await;
    report.fact(STRICT, async |row| strict(world, row).await).await;
    report.fact(SLOW, async |row| slow(world, row).await).await;
    report.fact(DOWN, async |row| down(world, row)).await;
    Ok(())
}

/// A connection of the app from before the rules, on which the other side speaks first after them; and the proxies' own
/// connections to their control planes.
async fn kept(world: &World, row: &mut Row) -> Result<()> {
    let back = world.held_over.as_str();
    row.expect(back == HELD_OVER, format!("the app got `{back}` on a connection from before the rules"));
    let proxies = world.at("west")?.get("/proxies").await?;
    row.expect(unsettled(&proxies, 3).is_empty(), format!("not every proxy is connected: {proxies}"));
    let lost = world.log("west").matches("proxy disconnected").count();
    row.expect(lost == 0, format!("{lost} connections of proxies to their control plane broke"));
    row.saw("the app's own connection and those of the proxies go on");
    Ok(())
}

fn calls(world: &World, row: &mut Row, host: &str, zone: &str) -> Result<()> {
    let url = format!("http://{host}:8080/");
    let mut address = String::new();
    for _ in 0..CALLS {
        let said = world.plain("west-web", &["get", &url])?;
        row.expect(said["status"] == 200 && said["zone"] == zone, format!("answered by {said}"));
        row.expect(said["peer"] == CALLER, format!("the app saw {} instead of {CALLER}", said["peer"]));
        address = said["address"].as_str().unwrap_or_default().to_owned();
        if !row.passed() {
            return Ok(());
        }
    }
    row.expect(address.starts_with(VIPS), format!("{host} was called at {address}"));
    row.saw(format!("{CALLS} of {CALLS} in {zone}, called at {address}, the app sees {CALLER}"));
    Ok(())
}

fn tcp(world: &World, row: &mut Row) -> Result<()> {
    for (host, zone) in [("cart.shop.mesh:9000", "west"), ("cart.shop.east.mesh:9000", "east")] {
        let text = "any bytes \u{1f9f5} at all";
        let said = world.plain("west-web", &["echo", host, text])?;
        row.expect(said["back"] == text, format!("{host} sent back {said}"));
        let said = world.plain("west-web", &["echo", host, "who\n"])?;
        let who: Value = serde_json::from_str(said["back"].as_str().unwrap_or_default()).unwrap_or_default();
        row.expect(who["zone"] == zone, format!("{host} was answered by {said}"));
        row.saw(format!("{host} in {}", who["zone"].as_str().unwrap_or("?")));
    }
    Ok(())
}

fn names(world: &World, row: &mut Row) -> Result<()> {
    let resolve = |name: &str| world.plain("west-web", &["resolve", name]);
    let known = resolve("cart.shop.mesh")?;
    let address = known["addresses"][0].as_str().unwrap_or_default().to_owned();
    row.expect(address.starts_with(VIPS), format!("cart.shop.mesh is {known}"));
    let unknown = resolve("crat.shop.mesh")?;
    row.expect(unknown["error"].is_string(), format!("a name of the mesh that nobody has is {unknown}"));
    let other = resolve("example.test")?;
    row.expect(other["addresses"][0] == ELSEWHERE.to_string(), format!("example.test is {other}"));
    row.saw(format!(
        "cart.shop.mesh {address}, crat.shop.mesh does not exist, example.test {ELSEWHERE} by the resolver"
    ));
    Ok(())
}

async fn outside(world: &World, row: &mut Row) -> Result<()> {
    let args = ["dev", "app", "--listen", "0.0.0.0:8090", "--zone", "none", "--app", "bank", "--workload", "bank"];
    let args = args.map(str::to_owned).to_vec();
    world.scene.start("bank", &super::scene::Start { program: "weft", args, ..Default::default() })?;
    let url = format!("http://{}/", SocketAddr::new(world.router_of("west-web"), 8090));
    let reached = async || Ok(world.plain("west-web", &["get", &url])?["zone"] == "none");
    let waited = until("the outside server answers", CONVERGED, reached).await;
    world.scene.kill("bank")?;
    waited?;
    row.saw("a server outside answers a redirected app, without any identity added");
    Ok(())
}

async fn strict(world: &World, row: &mut Row) -> Result<()> {
    let http = format!("http://{}/", world.address("west-cart", 8080));
    let tcp = world.address("west-cart", 9000).to_string();
    let refused = |said: &Value| said["status"] != 200 && said["zone"].as_str().unwrap_or_default().is_empty();
    let said = world.plain("router", &["get", &http])?;
    row.expect(refused(&said), format!("an outsider was answered {said}"));
    row.saw(format!("HTTP: {} {}", said["status"], said["reason"].as_str().unwrap_or_default()));
    let said = world.plain("router", &["echo", &tcp, "who\n"])?;
    let back = said["back"].as_str().unwrap_or_default();
    row.expect(back.is_empty(), format!("an outsider was sent {back}"));
    let said = world.plain("router", &["get", &format!("http://{}/", world.address("west-cart", 15_008))])?;
    row.expect(refused(&said), format!("the mutual-TLS port took plaintext: {said}"));
    mesh(world, "Permissive").await?;
    let taken = async || {
        let said = world.plain("router", &["get", &http])?;
        if said["status"] == 200 && said["peer"].as_str().unwrap_or_default().is_empty() {
            return Ok(true);
        }
        bail!("{said}")
    };
    let taken = until("a permissive mesh takes plaintext", CONVERGED, taken).await;
    mesh(world, "Strict").await?;
    let again = async || Ok(refused(&world.plain("router", &["get", &http])?));
    let again = until("a strict mesh refuses it again", CONVERGED, again).await?;
    row.saw(format!(
        "permissive takes it after {} ms, strict refuses after {} ms",
        taken?.as_millis(),
        again.as_millis()
    ));
    Ok(())
}

async fn slow(world: &World, row: &mut Row) -> Result<()> {
    let door = Door::clear("plain", "west-cart", world.address("west-cart", 8080));
    mesh(world, "Permissive").await?;
    let taken = until("a permissive mesh takes plaintext", CONVERGED, async || {
        Ok(world.plain("router", &["get", &format!("http://{}/", door.address)])?["status"] == 200)
    })
    .await;
    let ended = match taken {
        Ok(_) => Outsiders::new(door.clone(), SLOW_CONNECTIONS).await,
        Err(error) => Err(error),
    };
    mesh(world, "Strict").await?;
    ended?.judge(&door, row);
    Ok(())
}

async fn mesh(world: &World, mutual_tls: &str) -> Result<()> {
    let mesh = json!({"apiVersion": api::API_VERSION, "kind": "Mesh", "metadata": {"name": "default"},
        "spec": {"defaultAuthorization": "Allow", "mutualTls": mutual_tls}});
    world.at("global")?.send(Method::PUT, "/resources/meshes/default", Some(&mesh), &[]).await?;
    Ok(())
}

fn down(world: &World, row: &mut Row) -> Result<()> {
    let before = world.ruleset("west-web")?;
    row.expect(before.contains("table inet weft"), "the rules are not there to begin with");
    world.redirect("west-web", false)?;
    let rules = world.ruleset("west-web")?;
    row.expect(rules.trim().is_empty(), format!("left behind: {rules}"));
    let name = world.plain("west-web", &["resolve", "cart.shop.mesh"])?;
    row.expect(name["addresses"][0] == ELSEWHERE.to_string(), format!("a name is still answered by the mesh: {name}"));
    world.redirect("west-cart", false)?;
    let said = world.plain("router", &["get", &format!("http://{}/", world.address("west-cart", 8080))])?;
    row.expect(said["zone"] == "west", format!("without rules the app is not reached as before: {said}"));
    for host in ["west-web", "west-cart"] {
        world.redirect(host, false)?;
        world.redirect(host, true)?;
    }
    row.expect(world.ruleset("west-web")? == before, "the rules are not as before after up");
    let said = world.plain("west-web", &["get", "http://cart.shop.mesh:8080/"])?;
    row.expect(said["peer"] == CALLER, format!("after up the call was answered {said}"));
    row.saw(format!("{} rules gone and back; down twice is no error", before.matches('\n').count()));
    Ok(())
}
