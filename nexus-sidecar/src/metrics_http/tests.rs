//! What a scraper, a probe and a stranger get.

use super::*;
use crate::served::Served;
use crate::shutdown;

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_are_served_and_everything_else_is_answered_plainly() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new().unwrap();
    metrics.allocation("new");
    let (edge, queue) = EdgeHandle::channel(Served::default(), metrics.clone());
    drop(queue);
    let (stopper, stop) = shutdown::channel();
    let serving = tokio::spawn(serve(listener, metrics, edge, stop));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = ask(address, &get("/metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("nexus_sidecar_allocations_total{result=\"new\"} 1"));
    let head = ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    for (request, status) in [
        (get("/healthz"), "503"),
        (get("/"), "404"),
        ("DELETE /metrics HTTP/1.1\r\n\r\n".to_owned(), "405"),
        // Exactly as long as is read, so that the connection is not reset with octets unread.
        (format!("GET /{}", "x".repeat(MAX_HEAD - 5)), "400"),
    ] {
        let answer = ask(address, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    let error = bind(address).await.unwrap_err();
    assert!(error.to_string().contains("metrics.listen"), "{error}");
    stopper.stop();
    serving.await.unwrap();
}
