//! Data in both directions over TCP and UDP, compared byte by byte, and who the other side believes to talk to.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{interrupt, namespace::Namespace, socket};
use anyhow::{Context, Result, ensure};

/// Nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of a TCP connection.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// The address the server saw.
    pub peer: IpAddr,
    /// Segments sent more than once, by both sides.
    pub retransmitted: u32,
}

/// Sends `length` bytes to an echo server in `server` and checks what comes back. Returns the address the server saw.
pub fn tcp(client: &Namespace, server: &Namespace, target: Ipv4Addr, length: usize) -> Result<IpAddr> {
    transfer(client, server, target, length).map(|transfer| transfer.peer)
}

/// Like [`tcp`], with more to say about the connection.
pub fn transfer(client: &Namespace, server: &Namespace, target: Ipv4Addr, length: usize) -> Result<Transfer> {
    let listener = server.run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let data = noise(length);
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<Transfer> {
            let (stream, peer) = accept(&listener)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let copied = std::io::copy(&mut &stream, &mut &stream).context("echo server")?;
            stream.shutdown(Shutdown::Write)?;
            ensure!(copied == length as u64, "the server got {copied} of {length} bytes");
            let retransmitted = retransmitted(&stream)?;
            Ok(Transfer {
                peer: peer.ip(),
                retransmitted,
            })
        });
        let received = client.run(|| {
            let stream = TcpStream::connect_timeout(&SocketAddr::from((target, port)), PATIENCE)
                .with_context(|| format!("TCP connection to {target}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            thread::scope(|scope| {
                let writer = scope.spawn(|| -> Result<()> {
                    (&stream).write_all(&data).context("sending")?;
                    Ok(stream.shutdown(Shutdown::Write)?)
                });
                let mut received = Vec::new();
                (&stream).read_to_end(&mut received).context("receiving")?;
                writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok((received, retransmitted(&stream)?))
            })
        });
        let echoed = echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (received, own) = received?;
        ensure!(received == data, "TCP to {target}: what came back is not what was sent");
        echoed.map(|Transfer { peer, retransmitted }| Transfer {
            peer,
            retransmitted: retransmitted + own,
        })
    })
}

fn retransmitted(stream: &TcpStream) -> Result<u32> {
    // SAFETY: the structure is made of numbers.
    let info: libc::tcp_info = unsafe { socket::option(stream, libc::IPPROTO_TCP, libc::TCP_INFO) }?;
    Ok(info.tcpi_total_retrans)
}

fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    let accepted = interrupt::wait_for("a TCP connection", PATIENCE, || Ok(listener.accept().ok()))?;
    accepted.0.set_nonblocking(false)?;
    accepted.0.set_read_timeout(Some(PATIENCE))?;
    accepted.0.set_write_timeout(Some(PATIENCE))?;
    Ok(accepted)
}

/// Sends one datagram of `length` bytes to a server that sends it back. Returns the address the server saw, or nothing
/// if no right answer came.
pub fn udp(client: &Namespace, server: &Namespace, target: Ipv4Addr, length: usize) -> Result<Option<IpAddr>> {
    let open = |address| -> Result<UdpSocket> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(socket)
    };
    let client = client.run(|| open(Ipv4Addr::UNSPECIFIED))?;
    // A server with several addresses must answer from the one it was asked at, if that is one of its own.
    let server = server.run(|| open(target).or_else(|_| open(Ipv4Addr::UNSPECIFIED)))?;
    let target = SocketAddr::from((target, server.local_addr()?.port()));
    let data = noise(length);
    client
        .send_to(&data, target)
        .with_context(|| format!("{length} bytes over UDP to {target}"))?;
    let Some((request, peer)) = receive(&server)? else {
        return Ok(None);
    };
    ensure!(request == data, "UDP to {target}: the server got something else");
    server.send_to(&request, peer)?;
    let Some((reply, from)) = receive(&client)? else {
        return Ok(None);
    };
    ensure!(
        reply == data && from == target,
        "UDP to {target}: the answer is wrong or from {from}"
    );
    Ok(Some(peer.ip()))
}

fn receive(socket: &UdpSocket) -> Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut buffer = vec![0; 65_536];
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        interrupt::check()?;
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            buffer.truncate(length);
            return Ok(Some((buffer, peer)));
        }
    }
    Ok(None)
}

/// Bytes that no segment repeats (xorshift), the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}
