//! What stands before the replicas of a service in a deployment: each new connection goes to the
//! first replica that takes it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};

/// Forwards connections to `port` to one of `replicas`, in turn, until the test's runtime ends.
pub async fn serve(port: u16, replicas: Vec<u16>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        let next = AtomicUsize::new(0);
        while let Ok((mut from, _)) = listener.accept().await {
            let first = next.fetch_add(1, Ordering::Relaxed);
            let order: Vec<u16> =
                (0..replicas.len()).map(|turn| replicas[(first + turn) % replicas.len()]).collect();
            tokio::spawn(async move {
                for port in order {
                    if let Ok(mut to) =
                        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await
                    {
                        let _ = from.set_nodelay(true);
                        let _ = to.set_nodelay(true);
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                        return;
                    }
                }
            });
        }
    });
}
