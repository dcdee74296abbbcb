//! Whoever claims to be somebody else is refused, by real processes. The liars are written here, on the same crates the
//! programs are made of, with certificates the programs really got.

use super::base::{Base, Member, ZONE, proxy};
use super::forged::{Forger, Leaf, show};
use super::report::Report;
use super::scene::{free, until};
use crate::caller::Caller;
use crate::row::Row;
use anyhow::{Context, Result};
use api::config::{ServiceRef, zone_cp_server_name};
use api::report::{ProxyReport, ZoneReport, item};
use api::{SpiffeId, ZoneName};
use bytes::Bytes;
use identity::{Authority, ClientAuth, Expect, TrustStore, UnixTime};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use sync_grpc::{Absence, Channels, Dial, Follower, Lineage, Progress, Published};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const NAME: &str = "impostor: a zone that calls itself by another's name stays who its certificate says";
const CLAIMS: &str = "impostor: a zone can offer and vouch for its own only";
const WORKLOAD: &str = "impostor: a proxy whose certificate names another workload is refused";
const SERVER: &str = "impostor: a proxy that answers with another workload's certificate gets no request";
const CERTIFICATES: &str = "impostor: wrong certificates are refused in the handshake, at every door";

/// What is said on a stream arrives in milliseconds.
const HEARD: Duration = Duration::from_secs(10);
/// Version that the liar says, to be found again in what others see.
const LIAR: &str = "0.0.0-liar";

/// Looks at them.
pub async fn tell(report: &mut Report) -> Result<()> {
    if ![NAME, CLAIMS, WORKLOAD, SERVER, CERTIFICATES].iter().any(|fact| report.wants(fact)) {
        return Ok(());
    }
    let base = Base::new("impostor").await?;
    let mallory = base.joined("mallory").await?;
    report.fact(NAME, async |row| name(&base, &mallory, row).await).await;
    report.fact(CLAIMS, async |row| claims(&base, &mallory, row).await).await;
    report.fact(WORKLOAD, async |row| workload(&base, row).await).await;
    report.fact(SERVER, async |row| server(&base, row).await).await;
    report.fact(CERTIFICATES, async |row| certificates(&base, row).await).await;
    Ok(())
}

fn payload(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data").into()
}

/// A stream of our own making, open until dropped.
struct Stream {
    progress: watch::Receiver<BTreeMap<String, Progress>>,
    follower: Follower,
    _open: DropGuard,
}

/// Who dials whom, and what it publishes.
struct Liar<'a> {
    member: &'a Member,
    trust: TrustStore,
    at: SocketAddr,
    server: SpiffeId,
    sni: String,
    name: &'a str,
    follows: &'a str,
}

impl Liar<'_> {
    fn speak(self, publish: Vec<(&str, Vec<(String, Bytes)>)>) -> Stream {
        let config = identity::client_config(&self.member.live, &self.trust, Expect::id(self.server), &[b"h2"]);
        let sni = ServerName::try_from(self.sni).expect("a DNS name");
        let published = publish.into_iter().map(|(channel, items)| {
            let view = Published::new(Lineage { history: 1, revision: 1 });
            view.commit(items.into_iter().map(|(key, payload)| (Arc::from(key), Some(payload))));
            (channel.to_owned(), view)
        });
        let follower = Follower::memory(Absence::Follow);
        let channels = Channels { publish: published.collect(), follow: vec![(self.follows.into(), follower.clone())] };
        let (board, progress) = watch::channel(BTreeMap::new());
        let cancel = CancellationToken::new();
        let dial = Dial {
            addresses: watch::Sender::new(vec![self.at.to_string()]).subscribe(),
            tls: Arc::new(move |_| (config.clone(), sni.clone())),
            name: self.name.into(),
            version: LIAR.into(),
        };
        tokio::spawn(sync_grpc::dial(dial, channels, board, cancel.clone()));
        Stream { progress, follower, _open: cancel.drop_guard() }
    }
}

impl Stream {
    /// What the other side refused on a channel, once it has answered.
    async fn rejects(&self, channel: &str) -> Result<BTreeMap<String, String>> {
        let mut progress = self.progress.clone();
        let answered = progress.wait_for(|board| board.get(channel).is_some_and(|progress| progress.acked.is_some()));
        let board = tokio::time::timeout(HEARD, answered).await;
        let link = self.follower.link();
        let board = board.with_context(|| format!("no acknowledgement on {channel}; {:?}", *link.borrow()))??;
        let rejects = board[channel].rejects.iter();
        Ok(rejects.map(|reject| (reject.key.to_string(), reject.reason.to_string())).collect())
    }

    /// Why it could not stay connected.
    async fn refusal(&self) -> Result<String> {
        let mut link = self.follower.link();
        let told = link.wait_for(|link| link.error.is_some());
        let told = tokio::time::timeout(HEARD, told).await.context("nobody refused")??;
        Ok(told.error.clone().unwrap_or_default())
    }
}

fn zone_liar<'a>(base: &Base, mallory: &'a Member, name: &'a str) -> Result<Liar<'a>> {
    Ok(Liar {
        member: mallory,
        trust: mallory.trust("global.trust")?,
        at: base.at.global_sync,
        server: SpiffeId::global_cp(),
        sni: "global.weft".into(),
        name,
        follows: "policy",
    })
}

async fn name(base: &Base, mallory: &Member, row: &mut Row) -> Result<()> {
    let report = ZoneReport { version: LIAR.into(), proxies_total: 77, ..ZoneReport::default() };
    let stream = zone_liar(base, mallory, ZONE)?.speak(vec![("report", vec![(item::ZONE.into(), payload(&report))])]);
    stream.rejects("report").await?;
    let version = async |zone: &str| -> Result<Value> {
        let zones = base.global.get("/zones").await?;
        let found = zones["items"].as_array().into_iter().flatten().find(|item| item["name"] == zone);
        Ok(found.with_context(|| format!("zone {zone} is not listed"))?["version"].clone())
    };
    until("the report arrives", HEARD, async || Ok(version("mallory").await? == LIAR)).await?;
    let west = version(ZONE).await?;
    row.expect(west != LIAR, "the liar's report was taken for that of west");
    row.saw(format!("it opened as `{ZONE}` and counts as mallory; west still runs {west}"));
    Ok(())
}

async fn claims(base: &Base, mallory: &Member, row: &mut Row) -> Result<()> {
    let offer = |zone: &str| {
        json!({"service": {"mesh": "default", "namespace": "shop", "name": "cart"}, "ports": [{"port": 8080}], "ready": 9,
            "total": 9, "weight": 9, "load": null, "identities": [format!("spiffe://{zone}.default/ns/shop/sa/cart")]})
    };
    let trust = |zone: &str, mesh: &str| -> Result<Value> {
        let now = UnixTime::now();
        let own = Authority::create(format!("mallory.{mesh}").parse()?, now)?.trust();
        let mut value = serde_json::to_value(&own)?;
        value["domain"] = format!("{zone}.{mesh}").into();
        Ok(value)
    };
    let object = json!({"apiVersion": api::API_VERSION, "kind": "Workload", "spec": {"address": "127.0.0.1"},
        "metadata": {"name": "a", "namespace": "shop", "labels": {"weft.dev/zone": ZONE}}});
    let lies: Vec<(&str, String, Value)> = vec![
        ("exports", "export/default/shop/cart".into(), offer(ZONE)),
        ("exports", "trust/west.default".into(), trust(ZONE, "default")?),
        ("exports", "trust/west.control".into(), trust(ZONE, "control")?),
        ("exports", "trust/global.control".into(), trust("global", "control")?),
        ("report", format!("object/Workload/default/{ZONE}/shop/a"), object),
    ];
    let truth = ("exports".to_owned(), "trust/mallory.default".to_owned());
    let mut said: BTreeMap<&str, Vec<(String, Bytes)>> = BTreeMap::new();
    for (channel, key, value) in &lies {
        said.entry(channel).or_default().push((key.clone(), payload(value)));
    }
    said.entry("exports").or_default().push((truth.1.clone(), payload(&trust("mallory", "default")?)));
    let stream = zone_liar(base, mallory, "mallory")?.speak(said.into_iter().collect());
    for (channel, key, _) in &lies {
        let rejects = stream.rejects(channel).await?;
        match rejects.get(key) {
            Some(reason) => row.saw(format!("{key}: {reason}")),
            None => row.expect(false, format!("{key} was taken")),
        }
    }
    let own = stream.rejects("exports").await?;
    row.expect(!own.contains_key(&truth.1), format!("its own trust was refused: {:?}", own.get(&truth.1)));
    Ok(())
}

fn authority(base: &Base, folder: &str, domain: &str) -> PathBuf {
    base.scene.path(folder).join(format!("authority-{domain}.json"))
}

fn mesh_authority(base: &Base) -> PathBuf {
    authority(base, &format!("{ZONE}/authorities/mesh-default"), "west.default")
}

/// Anchors of the zone's mesh, as its proxies hold them.
pub fn mesh_trust(base: &Base) -> Result<TrustStore> {
    let folder = base.scene.path(ZONE).join("authorities/mesh-default");
    let authority = Authority::load_or_create(&folder, "west.default".parse()?, UnixTime::now())?;
    let trust = TrustStore::new();
    trust.set(&authority.trust())?;
    Ok(trust)
}

async fn workload(base: &Base, row: &mut Row) -> Result<()> {
    let web = base.enrolled("web", json!({"address": "127.0.0.1", "proxyPort": free()?.port()})).await?;
    base.enrolled(
        "cart",
        json!({"address": "127.0.0.1", "proxyPort": free()?.port(), "service": "cart",
        "ports": [{"port": 8080}]}),
    )
    .await?;
    // Signed by the zone's own authority: the identity of web, and the name of cart.
    let folder = base.scene.path(ZONE).join("authorities/mesh-default");
    let authority = Authority::load_or_create(&folder, "west.default".parse()?, UnixTime::now())?;
    let id: SpiffeId = "spiffe://west.default/ns/shop/sa/web".parse()?;
    let mixed = authority.certify(id, Some("default/shop/cart"), &[], UnixTime::now())?;
    let mixed = Member { live: identity::LiveCredentials::new(mixed), data: web.data.clone() };
    let zone: ZoneName = ZONE.parse()?;
    let liar = |member, name| -> Result<Liar> {
        Ok(Liar {
            member,
            trust: web.trust("trust.json")?,
            at: base.at.west_sync,
            server: SpiffeId::zone_cp(&zone),
            sni: zone_cp_server_name(&zone),
            name,
            follows: "config",
        })
    };
    let reason = liar(&mixed, "cart")?.speak(Vec::new()).refusal().await?;
    row.expect(reason.contains("but workload default/shop/cart is"), format!("refused otherwise: {reason}"));
    row.saw(reason);
    // With its own certificate and another's name it gets its own configuration: cart's would have an inbound port.
    let stream = liar(&web, "cart")?.speak(Vec::new());
    let mut held = stream.follower.watch();
    let held = tokio::time::timeout(HEARD, held.wait_for(|held| held.items.contains_key("inbound"))).await??.clone();
    let inbound: Value = serde_json::from_slice(&held.items["inbound"])?;
    row.expect(inbound["ports"].as_array().is_none_or(Vec::is_empty), format!("web was given {inbound}"));
    row.saw("with web's certificate and the name cart it gets web's configuration");
    Ok(())
}

/// Listens as a proxy would, with somebody's certificate; counts callers that go on to speak.
async fn listen(listener: TcpListener, config: Arc<rustls::ServerConfig>, taken: Arc<AtomicU32>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(mut stream) = acceptor.accept(stream).await {
            // A caller that refuses us says so in an alert; one that takes us begins to speak HTTP/2.
            if tokio::io::AsyncReadExt::read_u8(&mut stream).await.is_ok() {
                taken.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

async fn server(base: &Base, row: &mut Row) -> Result<()> {
    let thief = base.enrolled("thief", json!({"address": "127.0.0.1", "proxyPort": free()?.port()})).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let spec = json!({"address": "127.0.0.1", "proxyPort": port, "service": "bank", "ports": [{"port": 8080}]});
    let bank = base.enrolled("bank", spec).await?;
    // The zone believes that bank is ready, because bank's own certificate says so.
    let zone: ZoneName = ZONE.parse()?;
    let ready = ProxyReport { version: LIAR.into(), ready: true, ..ProxyReport::default() };
    let liar = Liar {
        member: &bank,
        trust: bank.trust("trust.json")?,
        at: base.at.west_sync,
        server: SpiffeId::zone_cp(&zone),
        sni: zone_cp_server_name(&zone),
        name: "bank",
        follows: "config",
    };
    let stream = liar.speak(vec![("report", vec![(item::PROXY.into(), payload(&ready))])]);
    stream.rejects("report").await?;
    // A real proxy calls, for an app that knows nothing of all this.
    let address = free()?;
    let spec = json!({"address": "127.0.0.1", "proxyPort": free()?.port()});
    let caller = base.enrolled("caller", spec).await?;
    let data = caller.data.display().to_string();
    base.scene.start("caller", &proxy(&data, &["--outbound-listen", &address.to_string()])?)?;
    let app = Caller::new(address);
    for (who, member, wanted) in [("thief", &thief, false), ("bank", &bank, true)] {
        let taken = Arc::new(AtomicU32::new(0));
        let copy = std::os::fd::AsFd::as_fd(&listener).try_clone_to_owned()?;
        let own = TcpListener::from_std(std::net::TcpListener::from(copy))?;
        let config =
            identity::server_config(&member.live, &mesh_trust(base)?, Expect::Any, ClientAuth::Required, &[b"h2"]);
        let serving = tokio::spawn(listen(own, config, taken.clone()));
        let mut words = String::new();
        let called = until(format!("bank is called, and answers as {who}"), HEARD, async || {
            let reply = app.get("bank.shop.mesh", "/").await;
            words = reply.words();
            // 0: the caller's proxy is still starting; 404: it has not heard of bank yet.
            Ok(reply.status != 0 && reply.status != 404 && (!wanted || taken.load(Ordering::SeqCst) > 0))
        });
        let called = called.await;
        serving.abort();
        called?;
        let count = taken.load(Ordering::SeqCst);
        row.expect(
            (count > 0) == wanted,
            format!("as {who}: {count} connections were taken; the app was told {words}"),
        );
        row.saw(format!("certificate of {who}: {count} connections taken; the app is told {words}"));
    }
    base.scene.kill("caller")
}

async fn certificates(base: &Base, row: &mut Row) -> Result<()> {
    let zone: ZoneName = ZONE.parse()?;
    // A proxy's door is looked at with a proxy that serves something.
    let inbound = free()?;
    let spec =
        json!({"address": "127.0.0.1", "proxyPort": inbound.port(), "service": "door", "ports": [{"port": 8080}]});
    let door = base.enrolled("door", spec).await?;
    let data = door.data.display().to_string();
    base.scene.start("door", &proxy(&data, &["--inbound-listen", &inbound.to_string()])?)?;
    let service = ServiceRef { mesh: "default".parse()?, namespace: "shop".parse()?, name: "door".parse()? };
    let mesh = (mesh_authority(base), "spiffe://west.default/ns/shop/sa/web", "default/shop/web");
    let global = (authority(base, "global/authority", "global.control"), "spiffe://global.control/zone/west", "");
    let doors = [
        ("global", base.at.global_sync, "global.weft".to_owned(), &global),
        ("zone", base.at.west_sync, zone_cp_server_name(&zone), &mesh),
        ("proxy", inbound, service.server_name(8080, &zone), &mesh),
    ];
    // Before it has its configuration a proxy trusts nobody.
    let right = Leaf { uris: vec![mesh.1.into()], name: mesh.2.into(), ended: false };
    let sni = service.server_name(8080, &zone);
    until("the proxy takes a right certificate", HEARD, async || {
        Ok(show(inbound, &sni, Forger::thief(&mesh.0)?.sign(&right)?).await?.is_none())
    })
    .await?;
    let mut count = 0;
    for (place, address, sni, (file, id, common)) in doors {
        let thief = Forger::thief(file)?;
        let stranger = Forger::stranger("west.default 1")?;
        let (domain, path) = id["spiffe://".len()..].split_once('/').context("an identity has a path")?;
        let leaf = |uris: &[&str]| Leaf {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            name: (*common).to_owned(),
            ended: false,
        };
        let (east, other) = (format!("spiffe://east.default/{path}"), format!("spiffe://west.other/{path}"));
        let cases = [
            ("right", thief.sign(&leaf(&[id]))?, false),
            ("of another authority", stranger.sign(&leaf(&[id]))?, true),
            ("expired", thief.sign(&Leaf { ended: true, ..leaf(&[id]) })?, true),
            ("of another zone", thief.sign(&leaf(&[&east]))?, true),
            ("of another mesh", thief.sign(&leaf(&[&other]))?, true),
            ("with two identities", thief.sign(&leaf(&[id, &format!("spiffe://{domain}/ns/shop/sa/b")]))?, true),
            ("with no identity", thief.sign(&leaf(&[]))?, true),
            ("with a strange identity", thief.sign(&leaf(&["spiffe://west.default/ns/../sa/web"]))?, true),
        ];
        let mut alerts = Vec::new();
        for (what, shown, refused) in cases {
            let alert = show(address, &sni, shown).await?;
            row.expect(alert.is_some() == refused, format!("{place}: a certificate {what}: {alert:?}"));
            count += 1;
            alerts.extend(alert.map(|alert| format!("{what}: {}", alert.trim_start_matches("received fatal alert: "))));
        }
        row.saw(format!("{place}: {}", alerts.join("; ")));
    }
    row.saw(format!("{count} handshakes; the right certificate was taken at each door"));
    base.scene.kill("door")
}
