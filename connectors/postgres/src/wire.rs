//! A small client of the replication protocol: logging in, simple queries, and COPY in both directions.

use std::io;

use bytes::{Bytes, BytesMut};
use lakehead_core::{Clock, Error, Result};
use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::endpoint::Endpoint;
use crate::fault::{self, ServerError};
use crate::link::{self, Link};
use crate::session::TIME_LIMITS_LIFTED;

/// What one read asks for: large enough that a system call carries many messages.
const READ_BYTES: usize = 256 << 10;
/// The longest message: the server's own limit for a value is 1 GiB, and a row of the log may hold an old and a new one.
const MESSAGE_BYTES_MAX: usize = 3 << 30;

/// A message from the server: its letter and its body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) letter: u8,
    pub(crate) body: Bytes,
}

/// A connection in the replication protocol.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Link,
    endpoint: Endpoint,
    inbox: BytesMut,
}

impl Wire {
    /// Connects and logs in with `replication=database`.
    pub(crate) async fn connect(endpoint: &Endpoint, clock: &dyn Clock) -> Result<Self> {
        let link = Link::connect(endpoint, clock).await?;
        let mut wire = Self { link, endpoint: endpoint.clone(), inbox: BytesMut::with_capacity(READ_BYTES) };
        tokio::select! {
            done = wire.log_in() => done?,
            () = clock.sleep(endpoint.connect_timeout) => return Err(link::timed_out(endpoint)),
        }
        Ok(wire)
    }

    async fn log_in(&mut self) -> Result<()> {
        let mut message = BytesMut::new();
        let parameters = [
            ("user", self.endpoint.user.as_str()),
            ("database", &self.endpoint.database),
            ("replication", "database"),
            ("application_name", &self.endpoint.application_name),
            ("client_encoding", "UTF8"),
            ("datestyle", "ISO"),
            ("extra_float_digits", "3"),
        ];
        encoded(frontend::startup_message(parameters, &mut message))?;
        self.send(&message).await?;
        loop {
            let reply = self.reply("logging in").await?;
            match reply.letter {
                b'R' => self.authenticate(&reply.body).await?,
                // Parameters, the key for cancelling, and notices.
                b'S' | b'K' | b'N' => {}
                b'v' => return Err(self.broken("the server knows another version of the protocol")),
                b'Z' => break,
                other => return Err(self.unexpected(other, "logging in")),
            }
        }
        self.query("setting up the connection", TIME_LIMITS_LIFTED).await.map(|_| ())
    }

    async fn authenticate(&mut self, request: &Bytes) -> Result<()> {
        let code = request.first_chunk::<4>().map(|code| u32::from_be_bytes(*code));
        match code {
            Some(0) => Ok(()),
            Some(3 | 5) if !self.link.is_private() => Err(fault::weak_authentication(&self.endpoint)),
            Some(3) => {
                let password = self.password()?;
                self.send_password(password.as_bytes()).await
            }
            Some(5) => {
                let password = self.password()?;
                let salt = request.get(4..8).and_then(|salt| salt.try_into().ok());
                let salt: [u8; 4] = salt.ok_or_else(|| self.broken("the md5 request has no salt"))?;
                let user = self.endpoint.user.clone();
                let hash = postgres_protocol::authentication::md5_hash(user.as_bytes(), password.as_bytes(), salt);
                self.send_password(hash.as_bytes()).await
            }
            Some(10) => self.scram(&request[4..]).await,
            _ => Err(self
                .endpoint
                .at(Error::user(fault::ACCESS, "the server asks for a way of authentication that is not known"))
                .help("use scram-sha-256 in pg_hba.conf")),
        }
    }

    fn password(&self) -> Result<String> {
        let password = self.endpoint.password.as_ref().ok_or_else(|| fault::no_password(&self.endpoint))?;
        Ok(password.reveal().to_owned())
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<()> {
        let mut message = BytesMut::new();
        encoded(frontend::password_message(password, &mut message))?;
        self.send(&message).await
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<()> {
        let password = self.password()?;
        let offers = |name: &str| mechanisms.split(|byte| *byte == 0).any(|offered| offered == name.as_bytes());
        let (binding, mechanism) = match self.link.end_point() {
            Some(data) if offers(sasl::SCRAM_SHA_256_PLUS) => {
                (ChannelBinding::tls_server_end_point(data), sasl::SCRAM_SHA_256_PLUS)
            }
            Some(_) => (ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
            None => (ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
        };
        if !offers(mechanism) {
            return Err(self.broken("the server offers no scram-sha-256"));
        }
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        let mut message = BytesMut::new();
        encoded(frontend::sasl_initial_response(mechanism, scram.message(), &mut message))?;
        self.send(&message).await?;
        let first = self.sasl_body(11).await?;
        scram.update(&first).map_err(|_| self.broken("the server's scram challenge is wrong"))?;
        message.clear();
        encoded(frontend::sasl_response(scram.message(), &mut message))?;
        self.send(&message).await?;
        let last = self.sasl_body(12).await?;
        scram
            .finish(&last)
            .map_err(|_| self.broken("the server does not know the password: its scram signature is wrong"))
    }

    async fn sasl_body(&mut self, code: u32) -> Result<Bytes> {
        let mut reply = self.reply("logging in").await?;
        if reply.letter != b'R' || reply.body.first_chunk::<4>() != Some(&code.to_be_bytes()) {
            return Err(self.unexpected(reply.letter, "logging in"));
        }
        Ok(reply.body.split_off(4))
    }

    /// Runs a command and returns its rows as texts.
    pub(crate) async fn query(&mut self, doing: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.send_query(sql).await?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let reply = match self.reply(doing).await {
                Ok(reply) => reply,
                // The server ends a failed command with a `Z` too, and the next command must not read it.
                Err(error) if failure.is_none() && error.context().iter().any(|(name, _)| *name == "sqlstate") => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            match reply.letter {
                b'D' => rows.push(data_row(&reply.body).ok_or_else(|| self.broken("a row of an answer is cut"))?),
                b'T' | b'C' | b'I' | b'S' | b'N' => {}
                b'Z' => return failure.map_or(Ok(rows), Err),
                other => return Err(self.unexpected(other, doing)),
            }
        }
    }

    /// Runs `START_REPLICATION`; from then on both sides send copy data.
    pub(crate) async fn start_copy(&mut self, doing: &str, sql: &str) -> Result<()> {
        self.send_query(sql).await?;
        loop {
            match self.reply(doing).await?.letter {
                b'W' => return Ok(()),
                b'S' | b'N' => {}
                other => return Err(self.unexpected(other, doing)),
            }
        }
    }

    async fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut message = BytesMut::new();
        encoded(frontend::query(sql, &mut message))?;
        self.send(&message).await
    }

    /// Sends the bytes of a message. Not cancel-safe: a message may be sent in part.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<()> {
        let sent = async {
            self.link.write_all(message).await?;
            self.link.flush().await
        };
        sent.await.map_err(|error| fault::lost(&self.endpoint, &error, "sending"))
    }

    /// Returns the next message; an error of the server becomes one of ours. Cancel-safe.
    pub(crate) async fn reply(&mut self, doing: &str) -> Result<Reply> {
        loop {
            if let Some((length, letter)) = self.whole_message()? {
                let body = self.inbox.split_to(length).freeze().slice(5..);
                if letter == b'E' {
                    return Err(server_error(&body).into_error(&self.endpoint, doing));
                }
                return Ok(Reply { letter, body });
            }
            self.read_more(doing).await?;
        }
    }

    /// Returns as many whole messages as have come, at least one, without parsing them. Cancel-safe.
    pub(crate) async fn messages(&mut self, doing: &str) -> Result<Bytes> {
        loop {
            let mut end = 0;
            while let Some((length, _)) = message_head(&self.inbox[end..]).map_err(|what| self.broken(what))? {
                if end + length > self.inbox.len() {
                    break;
                }
                end += length;
            }
            if end > 0 {
                return Ok(self.inbox.split_to(end).freeze());
            }
            self.read_more(doing).await?;
        }
    }

    /// Reads until the server closes the connection; what it still sends is dropped.
    pub(crate) async fn drain(&mut self) {
        loop {
            self.inbox.clear();
            if self.read_more("closing").await.is_err() {
                return;
            }
        }
    }

    fn whole_message(&self) -> Result<Option<(usize, u8)>> {
        let head = message_head(&self.inbox).map_err(|what| self.broken(what))?;
        Ok(head.filter(|(length, _)| *length <= self.inbox.len()))
    }

    async fn read_more(&mut self, doing: &str) -> Result<()> {
        let wanted = match message_head(&self.inbox) {
            Ok(Some((length, _))) => length.saturating_sub(self.inbox.len()).max(READ_BYTES),
            _ => READ_BYTES,
        };
        // What a message claims to need is reserved as it arrives, so that a claim alone costs no memory.
        self.inbox.reserve(wanted.min(READ_BYTES.max(self.inbox.len())));
        match self.link.read_buf(&mut self.inbox).await {
            Ok(0) => Err(fault::lost(&self.endpoint, &io::ErrorKind::UnexpectedEof.into(), doing)),
            Ok(_) => Ok(()),
            Err(error) => Err(fault::lost(&self.endpoint, &error, doing)),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn broken(&self, what: &str) -> Error {
        self.endpoint.at(fault::unreadable(what))
    }

    fn unexpected(&self, letter: u8, doing: &str) -> Error {
        self.broken("the server sent a message that does not belong there")
            .with("message", char::from(letter))
            .with("while", doing)
    }
}

fn encoded(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| Error::bug("a message cannot be encoded").caused_by(error))
}

/// Returns the length, letter included, and the letter of the message at the start of `bytes`.
pub(crate) fn message_head(bytes: &[u8]) -> Result<Option<(usize, u8)>, &'static str> {
    let Some(head) = bytes.first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..MESSAGE_BYTES_MAX).contains(&length) {
        return Err("a message has an impossible length");
    }
    Ok(Some((length + 1, head[0])))
}

/// Reads the fields of an ErrorResponse.
pub(crate) fn server_error(body: &[u8]) -> ServerError {
    let mut answer = ServerError { code: "XX000".into(), message: String::new() };
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((b'C', code)) => answer.code = String::from_utf8_lossy(code).into_owned(),
            Some((b'M', text)) => answer.message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    answer
}

fn data_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            rest = tail;
            continue;
        };
        let (value, tail) = tail.split_at_checked(length)?;
        row.push(Some(String::from_utf8(value.to_vec()).ok()?));
        rest = tail;
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_an_error_keeps_its_code_and_sentence() {
        let answer = server_error(b"SERROR\0VERROR\0C42501\0Mpermission denied for table t\0\0");
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("42501", "permission denied for table t"));
    }

    #[test]
    fn a_row_reads_its_nulls_and_a_cut_one_is_none() {
        let row = [0, 2, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(data_row(&row), Some(vec![Some("x".into()), None]));
        assert_eq!(data_row(&row[..8]), None);
        assert!(message_head(&[b'd', 0, 0, 0, 3]).is_err());
        assert_eq!(message_head(&[b'd', 0, 0, 0]).unwrap(), None);
    }
}
