//! Control planes of a mesh, together, over real sockets and disks.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod history;
#[path = "../../../global-cp/tests/rest/http.rs"]
mod http;
mod joining;
mod programming;
mod scene;
mod zones;
