//! The byte stream to a server: TCP or a unix socket, with or without TLS. Both the SQL client and the replication
//! client run over it, so that they are protected alike.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use lakehead_core::{Clock, Error, Result};
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, TlsStream};
use tokio_rustls::TlsConnector;

use crate::endpoint::{Endpoint, Protection};
use crate::fault::{self, WeakAuthentication};
use crate::tls;

/// What a server may send before it has asked for a password; more is not a PostgreSQL server.
const GREETING_BYTES_MAX: usize = 64 << 10;

/// A stream to a server.
#[derive(Debug)]
pub(crate) enum Link {
    /// A socket on this machine.
    Local(UnixStream),
    /// TCP without TLS; holds the server's first bytes until it has named its way of authentication.
    Plain(TcpStream, Option<BytesMut>),
    /// TCP with TLS, and the data of SCRAM's channel binding; where nobody has checked who the server is, also what
    /// `Plain` holds.
    Secure { stream: Box<tokio_rustls::client::TlsStream<TcpStream>>, binding: Option<Vec<u8>>, peer: Peer },
}

/// What is known of the server at the other end of TLS.
#[derive(Debug)]
pub(crate) enum Peer {
    /// A trusted root vouches for it.
    Verified,
    /// It may be anybody; holds its first bytes until it has named its way of authentication.
    Unverified(Option<BytesMut>),
}

impl Link {
    /// Connects within the endpoint's timeout.
    pub(crate) async fn connect(endpoint: &Endpoint, clock: &dyn Clock) -> Result<Self> {
        tokio::select! {
            link = Self::connect_untimed(endpoint) => link,
            () = clock.sleep(endpoint.connect_timeout) => Err(timed_out(endpoint)),
        }
    }

    async fn connect_untimed(endpoint: &Endpoint) -> Result<Self> {
        if endpoint.is_local_socket() {
            let path = format!("{}/.s.PGSQL.{}", endpoint.host, endpoint.port);
            let socket = UnixStream::connect(path).await.map_err(|error| unreachable(endpoint, &error))?;
            return Ok(Self::Local(socket));
        }
        let config = tls::client_config(endpoint)?;
        let addresses: Vec<_> = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|error| {
                let unknown =
                    Error::external(fault::HOST_UNKNOWN, format!("the host `{}` has no address", endpoint.host))
                        .with("cause", error)
                        .help("check the connection's `host` and this machine's name resolution");
                endpoint.at(unknown)
            })?
            .collect();
        let socket = connect_any(&addresses).await.map_err(|error| unreachable(endpoint, &error))?;
        match config {
            None => Ok(Self::Plain(socket, Some(BytesMut::new()))),
            Some(config) => Self::secure(endpoint, socket, config).await,
        }
    }

    async fn secure(endpoint: &Endpoint, mut socket: TcpStream, config: Arc<rustls::ClientConfig>) -> Result<Self> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        let lost = |error: io::Error| fault::lost(endpoint, &error, "asking for tls");
        socket.write_all(&request).await.map_err(lost)?;
        let mut answer = [0];
        socket.read_exact(&mut answer).await.map_err(lost)?;
        if answer != *b"S" {
            let refused = Error::user(fault::TLS_REFUSED, "the server does not offer tls")
                .help("turn `ssl` on in the server's configuration, or set `tls = disabled` where the network itself is trusted");
            return Err(endpoint.at(refused));
        }
        let name = match endpoint.host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(endpoint.host.clone()).map_err(|_| {
                endpoint.at(Error::user(fault::HOST_UNKNOWN, "the connection's `host` is not a host name"))
            })?,
        };
        let stream = TlsConnector::from(config)
            .connect(name, socket)
            .await
            .map_err(|error| fault::lost(endpoint, &error, "the tls handshake"))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let binding = certificate.and_then(|certificate| tls::server_end_point(certificate));
        let peer = match endpoint.protection {
            Protection::VerifyFull | Protection::VerifyCa => Peer::Verified,
            Protection::Insecure | Protection::Disabled => Peer::Unverified(Some(BytesMut::new())),
        };
        Ok(Self::Secure { stream: Box::new(stream), binding, peer })
    }

    /// Returns the data of SCRAM's channel binding, where there is TLS.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Secure { binding, .. } => binding.clone(),
            Self::Local(_) | Self::Plain(..) => None,
        }
    }

    /// Returns whether nobody but the server meant can read a password.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self, Self::Plain(..) | Self::Secure { peer: Peer::Unverified(_), .. })
    }
}

/// Connects to the first address that answers, with keepalive: a peer that is gone without a word is noticed by it.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the host has no address");
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        match socket.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

pub(crate) fn timed_out(endpoint: &Endpoint) -> Error {
    endpoint
        .at(Error::external(fault::CONNECT_TIMEOUT, "the server did not answer in time"))
        .with("timeout", format!("{:?}", endpoint.connect_timeout))
        .help("check `host`, `port` and the firewalls between; `connect_timeout` sets how long to wait")
}

fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Error {
    endpoint
        .at(Error::external(fault::HOST_REFUSED, "the server cannot be reached"))
        .with("cause", error)
        .help("check that the server runs and listens there (`listen_addresses`, `port`)")
}

/// Keeps what was read behind `before` until the server has named its way of authentication, and refuses one that
/// reveals the password.
fn watch_greeting(greeting: &mut Option<BytesMut>, read: &ReadBuf<'_>, before: usize) -> io::Result<()> {
    if let Some(seen) = greeting {
        seen.extend_from_slice(&read.filled()[before..]);
        if inspect_greeting(seen)? {
            *greeting = None;
        }
    }
    Ok(())
}

/// Looks through the server's first messages for a request that would reveal the password to whoever listens.
///
/// Returns `Ok(true)` once the server has asked for something harmless.
fn inspect_greeting(greeting: &[u8]) -> io::Result<bool> {
    let mut rest = greeting;
    while let Some((head, body)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] == b'R' {
            return match body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code)) {
                Some(3 | 5) => Err(io::Error::other(WeakAuthentication)),
                Some(_) => Ok(true),
                None => Ok(false),
            };
        }
        let Some(next) = length.checked_sub(4).and_then(|length| body.get(length..)) else {
            break;
        };
        rest = next;
    }
    if greeting.len() > GREETING_BYTES_MAX {
        return Err(io::Error::other("the server sends no authentication request"));
    }
    Ok(false)
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let (polled, greeting) = match self.get_mut() {
            Self::Local(socket) => return Pin::new(socket).poll_read(cx, buf),
            Self::Secure { stream, peer: Peer::Verified, .. } => return Pin::new(stream).poll_read(cx, buf),
            Self::Secure { stream, peer: Peer::Unverified(greeting), .. } => {
                (Pin::new(stream).poll_read(cx, buf), greeting)
            }
            Self::Plain(socket, greeting) => (Pin::new(socket).poll_read(cx, buf), greeting),
        };
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(watch_greeting(greeting, buf, before)),
            other => other,
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Local(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Plain(socket, _) => Pin::new(socket).poll_write(cx, buf),
            Self::Secure { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Local(socket) => Pin::new(socket).poll_flush(cx),
            Self::Plain(socket, _) => Pin::new(socket).poll_flush(cx),
            Self::Secure { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Local(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Plain(socket, _) => Pin::new(socket).poll_shutdown(cx),
            Self::Secure { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl TlsStream for Link {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_never_answers_a_request_for_a_readable_password() {
        let request = |code: u8| [b'R', 0, 0, 0, 8, 0, 0, 0, code];
        let notice = [b'N', 0, 0, 0, 5, 0];
        assert!(inspect_greeting(&request(3)).is_err());
        assert!(inspect_greeting(&[notice.as_slice(), &request(5)].concat()).is_err());
        assert!(inspect_greeting(&request(10)).unwrap());
        assert!(!inspect_greeting(&request(3)[..8]).unwrap());
        assert!(!inspect_greeting(&notice[..4]).unwrap());
    }
}
