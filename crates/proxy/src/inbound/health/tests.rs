//! Apps that answer over HTTP and gRPC, well and badly.

use super::*;
use crate::inbound::ready::Apps;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Longest wait for something that should be quick.
const SOON: Duration = Duration::from_secs(10);

fn quick(question: Question) -> HealthCheck {
    HealthCheck { interval_ms: 20, timeout_ms: 500, ..HealthCheck::asking(question) }
}

fn over_http(path: &str) -> Question {
    Question::Http { method: "GET".into(), path: path.into(), host: "cart".into(), statuses: Vec::new() }
}

/// An app that answers everything with the status of the moment, and what it was asked.
async fn app() -> (u16, Arc<AtomicU16>, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(Vec::new())));
    let (now, seen) = (status.clone(), asked.clone());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (now, seen) = (now.clone(), seen.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
                seen.lock().unwrap().push(format!("{} {} {host:?}", request.method(), request.uri()));
                let mut response = Response::new(Answer::<()>::text("x"));
                *response.status_mut() = http::StatusCode::from_u16(now.load(Ordering::SeqCst)).unwrap();
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), answer));
        }
    });
    (port, status, asked)
}

/// A server of `grpc.health.v1` that serves `good`, and nothing else.
async fn grpc_app(good: &'static str) -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                assert_eq!((request.method(), request.uri().path()), (&Method::POST, GRPC_CHECK));
                let (asked, _) = whole(request.into_body()).await.unwrap();
                let mut response = Response::new(match &asked[5..] {
                    [] => Answer::<()>::text(vec![0, 0, 0, 0, 2, 8, 1]),
                    // Field 1, of so many bytes.
                    [0x0a, _, name @ ..] if name == good.as_bytes() => Answer::text(vec![0, 0, 0, 0, 2, 8, 1]),
                    [0x0a, _, name @ ..] if name == b"resting" => Answer::text(vec![0, 0, 0, 0, 2, 8, 2]),
                    _ => Answer::text(""),
                });
                let status = if response.body().is_end_stream() { "5" } else { "0" };
                response.headers_mut().insert("grpc-status", http::HeaderValue::from_static(status));
                Ok::<_, Infallible>(response)
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(tcp), answer));
        }
    });
    port
}

async fn answer_of(port: u16, http2: bool, question: &Question) -> Result<(), String> {
    timeout(SOON, ask(SocketAddr::new(LOCALHOST, port), http2, question)).await.unwrap()
}

#[test]
fn so_many_answers_in_a_row_change_what_holds_and_the_first_one_decides() {
    let check = HealthCheck { healthy: 2, unhealthy: 3, ..HealthCheck::default() };
    // What was known, then answers and what holds after each.
    for (known, answers) in [
        (None, "+1"),
        (None, "-0"),
        (Some(true), "-1-1-0"),
        (Some(true), "-1-1+1-1-1-0"),
        (Some(false), "+0+1"),
        (Some(false), "+0-0+0+1-1-1-0"),
    ] {
        let mut opinion = Opinion { well: known, ..Opinion::default() };
        for step in answers.as_bytes().chunks(2) {
            let answer = if step[0] == b'+' { Ok(()) } else { Err("bad".to_owned()) };
            let before = opinion.well;
            let news = opinion.learn(answer, &check);
            assert_eq!(opinion.well, Some(step[1] == b'1'), "{known:?} {answers}");
            assert_eq!(news, opinion.well != before, "{known:?} {answers}");
        }
    }
}

#[tokio::test]
async fn a_status_of_success_or_one_of_those_listed_is_well() {
    let (port, status, asked) = app().await;
    let listed = |statuses: &[u16]| Question::Http {
        method: "HEAD".into(),
        path: "/up?deep=1".into(),
        host: "cart.shop".into(),
        statuses: statuses.to_vec(),
    };
    for (answers, statuses, well) in [
        (200, &[][..], true),
        (204, &[], true),
        (301, &[], false),
        (503, &[], false),
        (429, &[200, 429], true),
        (204, &[200], false),
    ] {
        status.store(answers, Ordering::SeqCst);
        let answer = answer_of(port, false, &listed(statuses)).await;
        assert_eq!(answer.is_ok(), well, "{answers} of {statuses:?}: {answer:?}");
    }
    assert_eq!(asked.lock().unwrap()[0], "HEAD /up?deep=1 Some(\"cart.shop\")");
    status.store(500, Ordering::SeqCst);
    assert_eq!(answer_of(port, false, &over_http("/up")).await, Err("/up answered 500".into()));
}

#[tokio::test]
async fn grpc_is_asked_in_its_own_words() {
    let port = grpc_app("shop.Cart").await;
    for (service, expect) in [
        ("", Ok(())),
        ("shop.Cart", Ok(())),
        ("resting", Err("grpc.health.v1 says that `resting` is not serving".to_owned())),
        ("unknown", Err("grpc.health.v1 answered status 5".to_owned())),
    ] {
        let answer = answer_of(port, true, &Question::Grpc { service: service.into() }).await;
        assert_eq!(answer, expect, "{service}");
    }
}

#[tokio::test]
async fn an_app_that_accepts_connections_and_is_not_well_is_unready_until_it_is() {
    let (port, status, _) = app().await;
    let news = watch::Sender::new(0);
    let apps = Arc::new(Apps::new(LOCALHOST, news.clone()));
    let ports = BTreeMap::from([(port, Protocol::Http)]);
    apps.set(ports.clone(), &HealthCheck::default());
    let watching = apps.clone();
    tokio::spawn(async move { watching.watch().await });
    let mut heard = news.subscribe();
    let mut until = async |ready: bool| {
        let changed = heard.wait_for(|_| apps.unready().is_empty() == ready);
        timeout(SOON, changed).await.expect("news in time").unwrap();
    };
    until(true).await;
    // Nobody asked yet, so what is asked first does not take it out for a moment.
    status.store(500, Ordering::SeqCst);
    apps.set(ports.clone(), &quick(over_http("/healthz")));
    assert!(apps.unready().is_empty());
    until(false).await;
    assert_eq!(apps.unwell(), BTreeMap::from([(port, "/healthz answered 500".to_owned())]));
    status.store(200, Ordering::SeqCst);
    until(true).await;
    assert!(apps.unwell().is_empty());
    // A question that nobody asks any more counts for nothing.
    status.store(500, Ordering::SeqCst);
    until(false).await;
    apps.set(ports, &HealthCheck::default());
    assert!(apps.unready().is_empty());
}

#[tokio::test]
async fn one_port_may_speak_for_all_and_silence_is_no_answer() {
    let (port, _, _) = app().await;
    let silent = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let check =
        HealthCheck { port: Some(silent.local_addr().unwrap().port()), timeout_ms: 50, ..quick(over_http("/")) };
    let ports = BTreeMap::from([(port, Protocol::Http), (port + 1, Protocol::Tcp)]);
    let checks = Checks::new(&check, &ports, &Checks::default(), |_| false);
    assert_eq!(checks.unwell(port).as_deref(), Some("not asked yet"));
    let (news, pause) = checks.ask(LOCALHOST).await;
    assert!(news && pause < Duration::from_millis(25), "the first answer decides: {pause:?}");
    for port in [port, port + 1] {
        assert_eq!(checks.unwell(port).as_deref(), Some("no answer within 50 ms"));
    }
}
