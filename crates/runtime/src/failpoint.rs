//! Named points at which a test can stop, kill, fail or hold the process. It guarantees that
//! in builds without debug assertions (releases) nothing of this is compiled in, and that a fault
//! is on record before it happens; where the points are is said by the code that has them.
//!
//! `ASSENT_FAILPOINTS` holds `name=action` entries separated by `;`; `ASSENT_FAILPOINTS_FILE`
//! names a file of such entries, read again at every hit. Actions: `stop` (SIGSTOP), `kill`
//! (SIGKILL), `panic`, `error`, `hold` (block while the entry stands in the file); `*N` after an
//! action means only on the Nth hit of that entry. Before it acts, a line
//! `name pid boottime_ns` is appended to the file named by `ASSENT_FAILPOINTS_LOG`.

/// Passes the point `name`. May not return. Holding blocks the thread: use [`hit_async`] where
/// that would stop others.
#[inline]
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    active::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Passes the point `name`; holding waits without blocking the thread. Tells whether the caller
/// must fail here (`error`).
#[inline]
#[must_use]
pub async fn fails(name: &str) -> bool {
    #[cfg(debug_assertions)]
    return active::hit_async(name).await;
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}

/// Passes the point `name`; holding waits without blocking the thread.
#[inline]
pub async fn hit_async(name: &str) {
    let _ = fails(name).await;
}

#[cfg(debug_assertions)]
mod active {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use crate::clock::{Clock, SystemClock};

    const POLL: Duration = Duration::from_millis(5);

    static FROM_ENVIRONMENT: LazyLock<String> =
        LazyLock::new(|| std::env::var("ASSENT_FAILPOINTS").unwrap_or_default());
    static FILE: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("ASSENT_FAILPOINTS_FILE").ok());
    static HITS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Entry {
        pub(super) text: String,
        pub(super) action: String,
        pub(super) nth: Option<u64>,
    }

    pub(super) fn find(entries: &str, name: &str) -> Option<Entry> {
        entries.split([';', '\n']).map(str::trim).find_map(|text| {
            let (found, action) = text.split_once('=')?;
            if found.trim() != name {
                return None;
            }
            let (action, nth) = match action.split_once('*') {
                Some((action, nth)) => (action, Some(nth.trim().parse().ok()?)),
                None => (action, None),
            };
            Some(Entry { text: text.to_owned(), action: action.trim().to_owned(), nth })
        })
    }

    fn standing(name: &str) -> Option<Entry> {
        find(&FROM_ENVIRONMENT, name).or_else(|| {
            let entries = std::fs::read_to_string(FILE.as_ref()?).ok()?;
            find(&entries, name)
        })
    }

    /// The entry, if it is this hit's turn.
    fn due(name: &str) -> Option<Entry> {
        let entry = standing(name)?;
        let mut hits = HITS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = hits.entry(entry.text.clone()).or_default();
        *count += 1;
        entry.nth.is_none_or(|nth| nth == *count).then_some(entry)
    }

    fn record(name: &str) {
        let Ok(path) = std::env::var("ASSENT_FAILPOINTS_LOG") else { return };
        let line = format!("{name} {} {}\n", std::process::id(), SystemClock.boottime().as_nanos());
        let written = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            tracing::error!(%error, "the failpoint log can't be written");
        }
    }

    fn send_to_self(signal: i32) {
        #[expect(unsafe_code, reason = "std can't send signals")]
        // SAFETY: a plain system call without pointers. To this very thread, which takes it before
        // it goes on: a signal to the process may land on another thread, and this one would
        // pass the point before it is frozen.
        unsafe {
            libc::raise(signal);
        }
    }

    fn act(entry: &Entry, name: &str) {
        record(name);
        match entry.action.as_str() {
            "stop" => send_to_self(libc::SIGSTOP),
            "kill" => {
                send_to_self(libc::SIGKILL);
                // The signal may land on another thread first: nothing happens after this point.
                loop {
                    std::thread::park();
                }
            }
            "panic" => panic!("failpoint {name}"),
            "error" | "hold" => {}
            other => tracing::error!(name, action = other, "unknown failpoint action"),
        }
    }

    fn holds(entry: &Entry, name: &str) -> bool {
        entry.action == "hold" && standing(name).is_some_and(|now| now.text == entry.text)
    }

    pub(super) fn hit(name: &str) {
        let Some(entry) = due(name) else { return };
        act(&entry, name);
        while holds(&entry, name) {
            std::thread::sleep(POLL);
        }
    }

    pub(super) async fn hit_async(name: &str) -> bool {
        let Some(entry) = due(name) else { return false };
        act(&entry, name);
        while holds(&entry, name) {
            tokio::time::sleep(POLL).await;
        }
        entry.action == "error"
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::active::{Entry, find};

    #[test]
    fn entries_name_point_action_and_turn() {
        let entries = "relay.sent=kill*3; gate.look = hold\n\nother=stop";
        assert_eq!(
            find(entries, "relay.sent"),
            Some(Entry { text: "relay.sent=kill*3".into(), action: "kill".into(), nth: Some(3) })
        );
        assert_eq!(find(entries, "gate.look").unwrap().action, "hold");
        assert_eq!(find(entries, "gate"), None);
    }
}
