//! How many connections each caller of a gateway has, and makes.

use crate::limits::{CONNECTIONS_PER_SOURCE, CONNECTS_PER_SOURCE, SOURCE_WINDOW, SOURCES_MAX};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// All callers.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<Mutex<HashMap<IpAddr, Source>>>);

#[derive(Debug)]
struct Source {
    open: usize,
    window: Instant,
    in_window: u32,
}

/// One admitted connection; gives its place back when dropped.
#[derive(Debug)]
pub struct Admitted {
    sources: Sources,
    from: IpAddr,
}

impl Sources {
    /// Admits a connection, unless its source has too many or makes them too fast.
    pub fn admit(&self, from: IpAddr, now: Instant) -> Option<Admitted> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&from) {
            sources.retain(|_, source| source.open > 0);
            if sources.len() >= SOURCES_MAX {
                return None;
            }
        }
        let source = sources.entry(from).or_insert(Source { open: 0, window: now, in_window: 0 });
        if now.duration_since(source.window) >= SOURCE_WINDOW {
            (source.window, source.in_window) = (now, 0);
        }
        if source.open >= CONNECTIONS_PER_SOURCE || source.in_window >= CONNECTS_PER_SOURCE {
            return None;
        }
        source.open += 1;
        source.in_window += 1;
        Some(Admitted { sources: self.clone(), from })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get_mut(&self.from) {
            source.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_everything() {
        let sources = Sources::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let start = Instant::now();
        let mut held = Vec::new();
        for _ in 0..CONNECTS_PER_SOURCE {
            held.push(sources.admit(a, start).unwrap());
        }
        assert!(sources.admit(a, start).is_none(), "too fast");
        assert!(sources.admit(b, start).is_some(), "another source is not concerned");
        let mut now = start;
        while held.len() < CONNECTIONS_PER_SOURCE {
            now += SOURCE_WINDOW;
            held.extend(std::iter::from_fn(|| sources.admit(a, now)).take(CONNECTIONS_PER_SOURCE - held.len()));
        }
        now += SOURCE_WINDOW;
        assert!(sources.admit(a, now).is_none(), "too many");
        held.pop();
        assert!(sources.admit(a, now).is_some());
    }
}
