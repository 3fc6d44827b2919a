//! As much HTTP as a guest's page needs: one GET, one text, connection closed.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::namespace::Namespace;

const PORT: u16 = 80;
/// Longest page that is read.
const LARGEST_PAGE: u64 = 64 * 1024;

/// Fetches `http://host/` from inside the namespace and returns the body.
pub fn get(namespace: &Namespace, host: Ipv4Addr, patience: Duration) -> Result<String> {
    namespace.run(|| {
        let address = SocketAddr::from((host, PORT));
        let mut stream = TcpStream::connect_timeout(&address, patience).with_context(|| format!("http://{host}/"))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").with_context(|| format!("http://{host}/"))?;
        let mut answer = String::new();
        stream
            .take(LARGEST_PAGE)
            .read_to_string(&mut answer)
            .with_context(|| format!("http://{host}/"))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
            _ => bail!("http://{host}/: {}", answer.lines().next().unwrap_or("an empty answer")),
        }
    })
}

/// A server with one page; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what `page` returns at every path, on all addresses of the namespace.
    pub fn start(namespace: &Namespace, page: impl Fn() -> String + Send + 'static) -> Result<Self> {
        let listener = namespace
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("an HTTP server in the guest"))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("http".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // The client's trouble, which it sees itself.
                    Ok((stream, _)) => drop(answer(stream, &page())),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream, page: &str) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 8192 {
        match stream.read(&mut buffer)? {
            0 => break,
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    )?;
    Ok(())
}
