//! The Redis protocol (RESP2), as far as a small store needs it: commands in, replies out.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The longest line: a length, an inline command, an error.
pub const LINE_BYTES_MAX: u64 = 4 * 1024;
/// The longest key or value.
pub const BULK_BYTES_MAX: usize = 1024 * 1024;
/// The most words of one command.
pub const WORDS_MAX: usize = 64;

/// One word of a command: bytes, as a value may be anything.
pub type Word = Vec<u8>;

/// Why a peer could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("cannot read from the peer")]
    Read(#[from] io::Error),
    /// The connection ended inside of a command or reply.
    #[error("the peer hung up in the middle of a message")]
    Torn,
    /// What came is not RESP, or too large.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
}

/// What the store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(&'static str),
    /// `-ERR …`
    Error(String),
    /// `:7`
    Integer(i64),
    /// A value, or none.
    Bulk(Option<Word>),
}

impl Reply {
    /// Appends the reply to `out`, as bytes of the protocol.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Status(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Self::Error(text) => out.extend_from_slice(format!("-ERR {text}\r\n").as_bytes()),
            Self::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::Bulk(None) => out.extend_from_slice(b"$-1\r\n"),
            Self::Bulk(Some(word)) => encode_bulk(word, out),
        }
    }
}

/// Appends a command to `out`, as an array of bulk strings.
pub fn encode_command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        encode_bulk(word, out);
    }
}

fn encode_bulk(word: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Reads the next command, an array or an inline line; none at the end of the stream.
///
/// An empty line is an empty command.
///
/// # Errors
///
/// [`Error`] when the peer hangs up in the middle, or sends what is no command.
pub async fn read_command<R>(reader: &mut R) -> Result<Option<Vec<Word>>, Error>
where
    R: AsyncBufRead + Unpin,
{
    let Some(line) = read_line(reader).await? else { return Ok(None) };
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Some(words.map(<[u8]>::to_vec).collect()));
    };
    let count = usize::try_from(number(count)?).unwrap_or(0);
    if WORDS_MAX < count {
        return Err(Error::Protocol("too many words"));
    }
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let line = read_line(reader).await?.ok_or(Error::Torn)?;
        let length = line.strip_prefix(b"$").ok_or(Error::Protocol("expected '$'"))?;
        let word = read_bulk(reader, number(length)?).await?;
        words.push(word.ok_or(Error::Protocol("a command has no null words"))?);
    }
    Ok(Some(words))
}

/// Reads one reply.
///
/// # Errors
///
/// [`Error`] when the peer hangs up, or sends what is no reply.
pub async fn read_reply<R>(reader: &mut R) -> Result<Reply, Error>
where
    R: AsyncBufRead + Unpin,
{
    let line = read_line(reader).await?.ok_or(Error::Torn)?;
    match line.split_first() {
        Some((b'+', b"PONG")) => Ok(Reply::Status("PONG")),
        Some((b'+', _)) => Ok(Reply::Status("OK")),
        Some((b'-', text)) => Ok(Reply::Error(String::from_utf8_lossy(text).into_owned())),
        Some((b':', text)) => Ok(Reply::Integer(number(text)?)),
        Some((b'$', text)) => Ok(Reply::Bulk(read_bulk(reader, number(text)?).await?)),
        Some(_) | None => Err(Error::Protocol("unknown reply type")),
    }
}

async fn read_line<R>(reader: &mut R) -> Result<Option<Vec<u8>>, Error>
where
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let too_long = LINE_BYTES_MAX <= line.len() as u64 + 1;
        return Err(if too_long { Error::Protocol("line too long") } else { Error::Torn });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

async fn read_bulk<R>(reader: &mut R, length: i64) -> Result<Option<Word>, Error>
where
    R: AsyncBufRead + Unpin,
{
    // Negative: the null value.
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    if BULK_BYTES_MAX < length {
        return Err(Error::Protocol("value too large"));
    }
    let mut word = vec![0; length + 2];
    reader.read_exact(&mut word).await.map_err(|error| {
        let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
        if is_end { Error::Torn } else { Error::Read(error) }
    })?;
    if !word.ends_with(b"\r\n") {
        return Err(Error::Protocol("value without its end"));
    }
    word.truncate(length);
    Ok(Some(word))
}

fn number(text: &[u8]) -> Result<i64, Error> {
    let text = str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Error::Protocol("not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn arrays_and_plain_lines_are_commands() {
        let mut reader: &[u8] = b"*2\r\n$3\r\nGET\r\n$5\r\na\r\nb \r\nSET  tea 4\n\r\n";
        let mut read = Vec::new();
        while let Some(words) = read_command(&mut reader).await.unwrap() {
            read.push(words);
        }
        assert_eq!(read.len(), 3);
        assert_eq!(read[0], [b"GET".to_vec(), b"a\r\nb ".to_vec()]);
        assert_eq!(read[1], [b"SET".to_vec(), b"tea".to_vec(), b"4".to_vec()]);
        assert!(read[2].is_empty());
    }

    #[tokio::test]
    async fn what_is_no_command_is_refused_and_never_taken_for_one() {
        for bytes in [
            b"*2\r\n$3\r\nGET\r\n$9999999999\r\n".as_slice(),
            b"*100000\r\n",
            b"*1\r\n:3\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$3\r\nGETxx",
            b"*x\r\n",
            &[b'a'; 5000],
        ] {
            let error = read_command(&mut &*bytes).await.unwrap_err();
            assert!(matches!(error, Error::Protocol(_)), "{error:?}");
        }
        for bytes in [b"*2\r\n$3\r\nGET\r\n".as_slice(), b"*1\r\n$3\r\nGE", b"PING"] {
            let error = read_command(&mut &*bytes).await.unwrap_err();
            assert!(matches!(error, Error::Torn), "{error:?}");
        }
    }

    #[tokio::test]
    async fn replies_are_read_as_they_were_written() {
        for reply in [
            Reply::Status("OK"),
            Reply::Status("PONG"),
            Reply::Error("nothing".to_owned()),
            Reply::Integer(-7),
            Reply::Bulk(None),
            Reply::Bulk(Some(b"a\r\nb".to_vec())),
        ] {
            let mut bytes = Vec::new();
            reply.encode(&mut bytes);
            let read = read_reply(&mut bytes.as_slice()).await.unwrap();
            match (&reply, &read) {
                (Reply::Error(sent), Reply::Error(got)) => assert!(got.ends_with(sent), "{got}"),
                _ => assert_eq!(reply, read),
            }
        }
    }
}
