//! FP4: every fault seen from both ends of a real connection.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use qwex_testbed::tcp_proxy::{Cut, Fault, Faults, Target, TcpProxy};
use qwex_testbed::{scratch, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(100);

/// A server that sends everything back, until the test ends.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
                write.shutdown().await.ok();
            });
        }
    });
    addr
}

async fn proxied() -> (TcpProxy, TcpStream) {
    let proxy = TcpProxy::start(echo().await).await.unwrap();
    let client = TcpStream::connect(proxy.addr()).await.unwrap();
    (proxy, client)
}

async fn answer(client: &mut TcpStream, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    timeout(LIMIT, client.read_exact(&mut buffer))
        .await
        .expect("an answer in time")?;
    Ok(buffer)
}

#[tokio::test]
async fn passes_and_counts() {
    let (proxy, mut client) = proxied().await;
    let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut read, mut write) = client.split();
    let mut got = Vec::new();
    let up = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (_, end) = tokio::join!(up, timeout(LIMIT, read.read_to_end(&mut got)));
    end.unwrap().unwrap();
    assert!(got == sent, "the bytes differ");
    drop(client);
    wait::until(LIMIT, "the connection to be counted out", || async {
        (proxy.counts().open == 0).then_some(())
    })
    .await
    .unwrap();
    let counts = proxy.counts();
    assert_eq!(
        (counts.connections, counts.up, counts.down),
        (1, 300_000, 300_000)
    );
}

#[tokio::test]
async fn delays_each_byte() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Faults::down(Fault::Delay(MOMENT)));
    let started = Instant::now();
    client.write_all(b"late").await.unwrap();
    assert_eq!(answer(&mut client, 4).await.unwrap(), b"late");
    assert!(started.elapsed() >= MOMENT);
}

#[tokio::test]
async fn a_black_hole_holds_until_lifted() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Faults::both(Fault::BlackHole));
    client.write_all(b"held").await.unwrap();
    let mut byte = [0; 1];
    assert!(
        timeout(MOMENT, client.read(&mut byte)).await.is_err(),
        "something came through"
    );
    proxy.set(Faults::NONE);
    assert_eq!(answer(&mut client, 4).await.unwrap(), b"held");
}

#[tokio::test]
async fn resets_open_connections_only() {
    let (proxy, mut client) = proxied().await;
    client.write_all(b"a").await.unwrap();
    answer(&mut client, 1).await.unwrap();
    proxy.reset_open();
    assert_eq!(
        answer(&mut client, 1).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let mut again = TcpStream::connect(proxy.addr()).await.unwrap();
    again.write_all(b"b").await.unwrap();
    assert_eq!(answer(&mut again, 1).await.unwrap(), b"b");
}

#[tokio::test]
async fn cuts_the_reply_at_the_byte() {
    let proxy = TcpProxy::start(echo().await).await.unwrap();
    proxy.set_for_next(Faults::down(Fault::CutAfter {
        bytes: 3,
        how: Cut::Close,
    }));
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(b"abcdef").await.unwrap();
    let mut got = Vec::new();
    timeout(LIMIT, client.read_to_end(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(got, b"abc");
    let mut next = TcpStream::connect(proxy.addr()).await.unwrap();
    next.write_all(b"abcdef").await.unwrap();
    assert_eq!(
        answer(&mut next, 6).await.unwrap(),
        b"abcdef",
        "only one connection was meant"
    );
}

#[tokio::test]
async fn half_closes_one_direction() {
    let (proxy, mut client) = proxied().await;
    client.write_all(b"one").await.unwrap();
    answer(&mut client, 3).await.unwrap();
    proxy.set(Faults::down(Fault::CutAfter {
        bytes: 0,
        how: Cut::HalfClose,
    }));
    assert_eq!(
        timeout(LIMIT, client.read(&mut [0; 1])).await.unwrap().unwrap(),
        0,
        "FIN from the target's side"
    );
    client.write_all(b"two").await.unwrap();
    wait::until(LIMIT, "the other direction", || async {
        (proxy.counts().up == 6).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn drips() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Faults::down(Fault::Drip {
        bytes: 2,
        every: Duration::from_millis(20),
    }));
    let started = Instant::now();
    client.write_all(b"0123456789").await.unwrap();
    assert_eq!(answer(&mut client, 10).await.unwrap(), b"0123456789");
    assert!(
        started.elapsed() >= Duration::from_millis(80),
        "five pieces have four pauses"
    );
}

#[tokio::test]
async fn refuses_and_takes_again() {
    let (proxy, mut client) = proxied().await;
    client.write_all(b"x").await.unwrap();
    answer(&mut client, 1).await.unwrap();
    proxy.refuse(true).await.unwrap();
    assert_eq!(
        TcpStream::connect(proxy.addr()).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    client.write_all(b"y").await.unwrap();
    assert_eq!(
        answer(&mut client, 1).await.unwrap(),
        b"y",
        "open connections live on"
    );
    proxy.refuse(false).await.unwrap();
    TcpStream::connect(proxy.addr()).await.unwrap();
}

#[tokio::test]
async fn serves_a_unix_target_and_resets_without_one() {
    let socket = scratch::dir("tcp").unwrap().join("s");
    let proxy = TcpProxy::start(Target::Unix(socket.clone())).await.unwrap();
    let mut early = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(
        answer(&mut early, 1).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let listener = UnixListener::bind(&socket).unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut server, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    server.write_all(b"hello").await.unwrap();
    assert_eq!(answer(&mut client, 5).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_dropped_proxy_ends_its_connections() {
    let (proxy, mut client) = proxied().await;
    let addr = proxy.addr();
    client.write_all(b"x").await.unwrap();
    answer(&mut client, 1).await.unwrap();
    drop(proxy);
    assert!(answer(&mut client, 1).await.is_err());
    assert!(TcpStream::connect(addr).await.is_err());
}
