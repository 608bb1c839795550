//! Serving on a bound listener until the soft stop: requests under way are finished, nothing new
//! is taken.

use std::io;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use assent_runtime::Lifecycle;

/// Serves the router until the soft stop and finishes what is under way.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle) -> io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Answers are small: waiting for more to send would only add latency.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set");
        }
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(lifecycle.stopping().cancelled_owned())
        .await
}
