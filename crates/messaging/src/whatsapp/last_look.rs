//! The last look at the lease, inside the request's body: when the transport asks for the first
//! byte and the lease has run out, the body fails instead, so that the connection is dropped and no
//! byte of the message is written. It guarantees that, and that when each body began and ended
//! is known; what follows from it is left to the dispatcher.
//!
//! Everything before the body (name lookup, connect, TLS, request head) may take any time without
//! harm. What remains open is said in the guarantees: a process frozen between this look and the
//! write itself can't be stopped by anyone, since the provider knows no fencing tokens. Such a write
//! ends after its lease, which [`Written::overrun`] tells.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use assent_runtime::{Lease, failpoint};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The lease had run out at the last look: nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease ran out before the body began: withheld")]
pub struct Withheld;

/// What became of a body, for whoever sent it.
#[derive(Debug, Default, Clone)]
pub struct Written(Arc<Mutex<State>>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    withheld: bool,
    began: bool,
    overrun: Option<Duration>,
}

impl Written {
    /// Whether the last look withheld it.
    #[must_use]
    pub fn withheld(&self) -> bool {
        self.state().withheld
    }

    /// Whether its first byte was handed out: from then on it may have been sent.
    #[must_use]
    pub fn began(&self) -> bool {
        self.state().began
    }

    /// By how much the transport's write of its last byte came after the end of the lease; none
    /// while it is being written and when it came in time.
    #[must_use]
    pub fn overrun(&self) -> Option<Duration> {
        self.state().overrun.filter(|overrun| !overrun.is_zero())
    }

    fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A request body that looks at its lease when its first byte is asked for.
pub struct LastLook {
    bytes: Option<Vec<u8>>,
    lease: Lease,
    written: Written,
}

impl LastLook {
    /// A body under `lease`, and the record of what becomes of it.
    #[must_use]
    pub fn new(bytes: Vec<u8>, lease: Lease) -> (Self, Written) {
        let written = Written::default();
        (Self { bytes: Some(bytes), lease, written: written.clone() }, written)
    }
}

impl Body for LastLook {
    type Data = Bytes;
    type Error = Withheld;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withheld>>> {
        let this = self.get_mut();
        let Some(bytes) = this.bytes.take() else { return Poll::Ready(None) };
        failpoint::hit("messaging.before_last_look");
        if !this.lease.is_live() {
            this.written.note(|state| state.withheld = true);
            return Poll::Ready(Some(Err(Withheld)));
        }
        this.written.note(|state| state.began = true);
        let watched = Watched { bytes, lease: this.lease.clone(), written: this.written.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(watched)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    /// Exact, so that the transport writes a `content-length` and everything in one piece.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// The bytes on loan to the transport, which lets go of them when it has written the last one.
struct Watched {
    bytes: Vec<u8>,
    lease: Lease,
    written: Written,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        failpoint::hit("messaging.before_body_ends");
        let overrun = self.lease.overrun();
        self.written.note(|state| state.overrun = Some(overrun));
        failpoint::hit("messaging.after_body");
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use assent_runtime::{Clock, LeaseTerms, ManualClock};

    use super::*;

    fn body() -> (LastLook, Written, Arc<ManualClock>) {
        let manual = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
        let clock: Arc<dyn Clock> = manual.clone();
        let lease = Lease::start(&clock, &LeaseTerms::default());
        let (body, written) = LastLook::new(b"message".to_vec(), lease);
        (body, written, manual)
    }

    fn poll(body: &mut LastLook) -> Option<Result<Bytes, Withheld>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame.map(|f| f.map(|f| f.into_data().ok().unwrap())),
            Poll::Pending => panic!("it never waits"),
        }
    }

    #[test]
    fn under_its_lease_the_body_is_given_whole() {
        let (mut body, written, _) = body();
        assert_eq!(body.size_hint().exact(), Some(7));
        assert!(!written.began());
        let bytes = poll(&mut body).unwrap().unwrap();
        assert_eq!(&bytes[..], b"message");
        assert!(body.is_end_stream() && poll(&mut body).is_none());
        assert!(written.began() && !written.withheld());
        drop(bytes);
        assert_eq!(written.overrun(), None);
    }

    #[test]
    fn g1_after_its_lease_not_a_byte_is_given() {
        let (mut body, written, clock) = body();
        clock.advance(LeaseTerms::default().length);
        assert_eq!(poll(&mut body), Some(Err(Withheld)));
        assert!(written.withheld() && !written.began());
        assert!(poll(&mut body).is_none(), "asking again gives nothing either");
    }

    #[test]
    fn a_write_that_ends_after_its_lease_is_told() {
        let (mut body, written, clock) = body();
        let bytes = poll(&mut body).unwrap().unwrap();
        clock.advance(LeaseTerms::default().length + Duration::from_millis(30));
        drop(bytes);
        assert_eq!(written.overrun(), Some(Duration::from_millis(30)));
    }
}
