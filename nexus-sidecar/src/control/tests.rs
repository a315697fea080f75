//! The control socket, with and without somebody behind it.

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::metrics::Metrics;
use crate::served::Served;
use crate::shutdown;

#[tokio::test]
async fn a_second_sidecar_is_refused_and_a_socket_that_nobody_serves_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/control.sock");
    let first = ControlServer::bind(&path).await.unwrap();
    let error = ControlServer::bind(&path).await.unwrap_err();
    assert!(
        error.to_string().contains("another nexus-sidecar"),
        "{error}"
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    drop(first);
    assert!(!path.exists());
    // What kill -9 leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    ControlServer::bind(&path).await.unwrap();
}

#[tokio::test]
async fn a_request_that_makes_no_sense_and_an_edge_that_is_gone_are_answered_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let server = ControlServer::bind(&path).await.unwrap();
    let (edge, queue) = EdgeHandle::channel(Served::default(), Metrics::new().unwrap());
    let packets = PacketEvents::nobody();
    drop(queue);
    let (stopper, stop) = shutdown::channel();
    let serving = tokio::spawn(server.serve(edge, packets, stop));
    let error = ask(&path, &Request::Status, |_| panic!("no answer"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("edge task has stopped"),
        "{error}"
    );
    for text in ["{}\n", "{\"command\": \"reboot\"}\n", "\n"] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("not understood"), "{text:?}: {answer}");
    }
    stopper.stop();
    serving.await.unwrap();
    assert!(!path.exists());
}
