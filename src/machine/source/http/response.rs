//! A response, read from bytes as they come. Pure: nothing here waits.

const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// As long as a document may be.
const BODY_BYTES_MAX: usize = super::super::DOCUMENT_BYTES_MAX;
/// Sizes and ends of chunks come on top of the body.
const CHUNKED_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// What the head announced, without its chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        let field = fields.find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }
}

/// How the end of the body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Takes bytes until a response is complete.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    head: Option<(Response, Framing)>,
    /// Where in `bytes` the next chunk begins.
    chunk: usize,
}

impl Reader {
    /// Takes what came; the response once it is complete. What follows it is dropped.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Response>, String> {
        self.bytes.extend_from_slice(bytes);
        if self.head.is_none() && !self.read_head()? {
            return Ok(None);
        }
        let Some((response, framing)) = &mut self.head else {
            return Ok(None);
        };
        let is_complete = match *framing {
            Framing::Length(length) => {
                let is_complete = self.bytes.len() >= length;
                if is_complete {
                    response.body = self.bytes[..length].to_vec();
                }
                is_complete
            }
            Framing::Chunked if self.bytes.len() > CHUNKED_BYTES_MAX => return Err(too_long()),
            Framing::Chunked => read_chunks(&self.bytes, &mut self.chunk, &mut response.body)?,
            Framing::UntilClose if self.bytes.len() > BODY_BYTES_MAX => return Err(too_long()),
            Framing::UntilClose => false,
        };
        Ok(if is_complete {
            self.head.take().map(|(response, _)| response)
        } else {
            None
        })
    }

    /// The other side has closed: that ends a body without a length, and breaks off any other.
    pub fn finish(self) -> Result<Response, String> {
        match self.head {
            Some((mut response, Framing::UntilClose)) => {
                response.body = self.bytes;
                Ok(response)
            }
            _ => Err("its response breaks off".to_owned()),
        }
    }

    /// Reads the head if all of it is there, and leaves the bytes behind it.
    fn read_head(&mut self) -> Result<bool, String> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head
            .parse(&self.bytes)
            .map_err(|error| format!("its response is no HTTP: {error}"))?;
        let httparse::Status::Complete(length) = parsed else {
            if self.bytes.len() > HEAD_BYTES_MAX {
                return Err("the head of its response is too long".to_owned());
            }
            return Ok(false);
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
        let headers: Vec<(String, String)> = head
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
            .collect();
        let status = head.code.unwrap_or(0);
        let framing = framing(status, &headers)?;
        let response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        self.bytes.drain(..length);
        self.head = Some((response, framing));
        Ok(true)
    }
}

fn framing(status: u16, headers: &[(String, String)]) -> Result<Framing, String> {
    let all = |name: &'static str| headers.iter().filter(move |(field, _)| field == name);
    if matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some((_, coding)) = all("transfer-encoding").next() {
        return match coding.eq_ignore_ascii_case("chunked") {
            true => Ok(Framing::Chunked),
            false => Err(format!("its response is coded as {coding:?}")),
        };
    }
    let mut lengths = all("content-length").map(|(_, length)| length.parse::<usize>());
    match lengths.next() {
        None => Ok(Framing::UntilClose),
        Some(Ok(length)) if length > BODY_BYTES_MAX => Err(too_long()),
        Some(Ok(length)) if lengths.all(|other| other == Ok(length)) => Ok(Framing::Length(length)),
        Some(_) => Err("the length of its response is no number".to_owned()),
    }
}

/// Adds the chunks that are complete to the body (RFC 9112 §7.1). True at the last one; trailers
/// behind it are of no use.
fn read_chunks(bytes: &[u8], at: &mut usize, body: &mut Vec<u8>) -> Result<bool, String> {
    let broken = || "a chunk of its response is broken".to_owned();
    loop {
        let rest = &bytes[*at..];
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(complete)) => complete,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(broken()),
        };
        if size == 0 {
            return Ok(true);
        }
        let size = usize::try_from(size).map_err(|_| too_long())?;
        if size > BODY_BYTES_MAX - body.len() {
            return Err(too_long());
        }
        let Some(chunk) = rest.get(start..start + size + 2) else {
            return Ok(false);
        };
        let (chunk, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err(broken());
        }
        body.extend_from_slice(chunk);
        *at += start + size + 2;
    }
}

fn too_long() -> String {
    format!("its response is longer than {} KiB", BODY_BYTES_MAX >> 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds pieces of a length, then the end.
    fn read(bytes: &[u8], piece: usize) -> Result<Response, String> {
        let mut reader = Reader::default();
        for piece in bytes.chunks(piece) {
            if let Some(response) = reader.feed(piece)? {
                return Ok(response);
            }
        }
        reader.finish()
    }

    #[test]
    fn a_body_ends_by_length_by_chunks_or_by_closing() {
        let heads = [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-One: a\r\n\r\nhello world and more"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nx-one: a\r\n\r\n6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nX-ONE: a\r\n\r\nhello world",
        ];
        for bytes in heads {
            for piece in [1, 2, 3, 1000] {
                let response = read(bytes, piece).expect("a response");
                assert_eq!(response.body, b"hello world");
                assert_eq!(response.header("x-one"), Some("a"));
                assert_eq!(response.header("x-two"), None);
            }
        }
        let empty = read(b"HTTP/1.1 204 No Content\r\n\r\n", 1).expect("a response");
        assert_eq!((empty.status, empty.body.len()), (204, 0));
    }

    #[test]
    fn what_is_broken_or_too_long_is_refused() {
        let why = |bytes: &[u8]| read(bytes, 100).expect_err("no response");
        assert!(why(b"").contains("breaks off"));
        assert!(why(b"SSH-2.0-x\r\n").contains("no HTTP"));
        assert!(why(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").contains("breaks off"));
        assert!(why(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").contains("no number"));
        assert!(
            why(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
                .contains("no number")
        );
        assert!(why(b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n").contains("longer"));
        assert!(why(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n").contains("gzip"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(why(&[&chunked[..], b"x\r\n"].concat()).contains("broken"));
        assert!(why(&[&chunked[..], b"2\r\nabc\r\n"].concat()).contains("broken"));
        assert!(why(&[&chunked[..], b"fffffffffffffff\r\n"].concat()).contains("longer"));
        let long = [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            &vec![b'a'; BODY_BYTES_MAX + 1],
        ]
        .concat();
        assert!(why(&long).contains("longer"));
        let head = [
            &b"HTTP/1.1 200 OK\r\nX: "[..],
            &vec![b'a'; 2 * HEAD_BYTES_MAX],
        ]
        .concat();
        assert!(why(&head).contains("head"));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(rest in proptest::collection::vec(any::<u8>(), 0..200), chunked: bool, piece in 1usize..20) {
            let head: &[u8] = if chunked { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" } else { b"HTTP/1.1 200" };
            let bytes = [head, &rest].concat();
            prop_assert_eq!(read(&bytes, piece).ok(), read(&bytes, bytes.len()).ok());
        }
    }
}
