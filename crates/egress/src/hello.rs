//! The server name in the first message of a TLS connection (RFC 8446 section 4.1.2, RFC 6066
//! section 3), read strictly: what could be understood in two ways is refused.

/// Largest ClientHello that is read, in bytes.
pub(crate) const MAX_HELLO: usize = 16 << 10;

/// What the bytes so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// Not a TLS handshake.
    NotTls,
    /// Complete; the server name if there is one.
    Name(Option<String>),
    /// Refused, with the reason.
    Bad(&'static str),
}

/// Reads the beginning of a client's stream.
pub(crate) fn read(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        // One record: type, version, length, fragment.
        match rest {
            [] if message.is_empty() => return Hello::Incomplete,
            [kind, ..] if *kind != 22 => {
                return if message.is_empty() {
                    Hello::NotTls
                } else {
                    Hello::Bad("another record inside the first message")
                };
            }
            [_, major, ..] if *major != 3 => {
                return if message.is_empty() { Hello::NotTls } else { Hello::Bad("a malformed record") };
            }
            [_, _, _, high, low, fragment @ ..] => {
                let length = usize::from(*high) << 8 | usize::from(*low);
                if length == 0 || length > 1 << 14 {
                    return Hello::Bad("a record of impossible length");
                }
                let have = fragment.len().min(length);
                message.extend_from_slice(&fragment[..have]);
                rest = &fragment[have..];
                match whole(&message) {
                    Err(reason) => return Hello::Bad(reason),
                    Ok(Some(hello)) => return server_name(hello),
                    Ok(None) if have < length => return Hello::Incomplete,
                    Ok(None) => {}
                }
            }
            _ => return Hello::Incomplete,
        }
        if rest.is_empty() {
            return Hello::Incomplete;
        }
    }
}

/// The body of the ClientHello when it is complete.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let [kind, a, b, c, body @ ..] = message else { return Ok(None) };
    if *kind != 1 {
        return Err("the first message is not a ClientHello");
    }
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    if length > MAX_HELLO {
        return Err("the first message is too long");
    }
    match body.len() {
        have if have < length => Ok(None),
        // A second message in the same record has no business before the answer.
        have if have > length => Err("data behind the first message"),
        _ => Ok(Some(body)),
    }
}

fn server_name(hello: &[u8]) -> Hello {
    match extensions(hello).and_then(find_name) {
        Ok(name) => Hello::Name(name),
        Err(reason) => Hello::Bad(reason),
    }
}

const MALFORMED: &str = "a malformed ClientHello";

fn extensions(hello: &[u8]) -> Result<&[u8], &'static str> {
    let mut at = Reader(hello);
    at.take(2 + 32).ok_or(MALFORMED)?;
    let session = at.u8().ok_or(MALFORMED)?;
    at.take(session).ok_or(MALFORMED)?;
    let suites = at.u16().ok_or(MALFORMED)?;
    at.take(suites).ok_or(MALFORMED)?;
    let compressions = at.u8().ok_or(MALFORMED)?;
    at.take(compressions).ok_or(MALFORMED)?;
    if at.0.is_empty() {
        return Ok(&[]);
    }
    let length = at.u16().ok_or(MALFORMED)?;
    let all = at.take(length).ok_or(MALFORMED)?;
    if at.0.is_empty() { Ok(all) } else { Err(MALFORMED) }
}

fn find_name(extensions: &[u8]) -> Result<Option<String>, &'static str> {
    const SERVER_NAME: usize = 0;
    const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;
    let mut at = Reader(extensions);
    let mut name = None;
    while !at.0.is_empty() {
        let kind = at.u16().ok_or(MALFORMED)?;
        let length = at.u16().ok_or(MALFORMED)?;
        let body = at.take(length).ok_or(MALFORMED)?;
        match kind {
            SERVER_NAME if name.is_some() => return Err("two server names"),
            SERVER_NAME => name = Some(one_name(body)?),
            ENCRYPTED_CLIENT_HELLO => return Err("an encrypted ClientHello, which hides the server's name"),
            _ => {}
        }
    }
    Ok(name)
}

fn one_name(body: &[u8]) -> Result<String, &'static str> {
    let mut at = Reader(body);
    let length = at.u16().ok_or(MALFORMED)?;
    if length != at.0.len() {
        return Err(MALFORMED);
    }
    if at.u8() != Some(0) {
        return Err("a server name of unknown kind");
    }
    let length = at.u16().ok_or(MALFORMED)?;
    let name = at.take(length).ok_or(MALFORMED)?;
    if !at.0.is_empty() {
        return Err("two server names");
    }
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err("a malformed server name"),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1).map(|b| usize::from(b[0]))
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|b| usize::from(b[0]) << 8 | usize::from(b[1]))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn block16(body: &[u8]) -> Vec<u8> {
        [&u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &block16(body)].concat()
    }

    pub(crate) fn name_extension(names: &[&str]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|n| [&[0][..], &block16(n.as_bytes())].concat()).collect();
        extension(0, &block16(&list))
    }

    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(block16(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(block16(&extensions.concat()));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &block16(piece)].concat()).collect()
    }

    pub(crate) fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        records(&message(extensions), 1 << 14)
    }

    #[test]
    fn names_are_found_and_doubt_is_refused() {
        let named = |n: &str| Hello::Name(Some(n.to_owned()));
        let with = |extensions: &[Vec<u8>]| read(&hello(extensions));
        assert_eq!(with(&[name_extension(&["a.example"])]), named("a.example"));
        assert_eq!(with(&[extension(10, &[0, 0]), name_extension(&["a.example"])]), named("a.example"));
        assert_eq!(with(&[]), Hello::Name(None));
        for bad in [
            vec![name_extension(&["a.example", "b.example"])],
            vec![name_extension(&["a.example"]), name_extension(&["b.example"])],
            vec![name_extension(&[""])],
            vec![name_extension(&["a\0b"])],
            vec![name_extension(&["a.example"]), extension(0xfe0d, &[0])],
            vec![extension(0, &[])],
            vec![extension(0, &[0, 9, 0, 0, 1])],
            vec![extension(0, &block16(&[&[1][..], &block16(b"a")].concat()))],
        ] {
            assert!(matches!(with(&bad), Hello::Bad(_)), "{bad:?}");
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Hello::NotTls);
        assert_eq!(read(b"SSH-2.0-x\r\n"), Hello::NotTls);
        assert_eq!(read(&[22, 2, 0]), Hello::NotTls);
        // An alert, a key exchange first, an empty record, a giant.
        assert!(matches!(read(&[22, 3, 1, 0, 0]), Hello::Bad(_)));
        assert!(matches!(read(&records(&[2, 0, 0, 0], 100)), Hello::Bad(_)));
        assert!(matches!(read(&records(&[1, 0, 0x50, 0, 0], 100)), Hello::Bad(_)));
        assert!(matches!(read(&records(&[message(&[]), vec![1]].concat(), 1 << 14)), Hello::Bad(_)));
    }

    #[test]
    fn every_prefix_and_every_split_is_understood() {
        let message = message(&[name_extension(&["a.example"])]);
        for size in [1, 2, 3, 5, 40, 1000] {
            let bytes = records(&message, size);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Incomplete, "{size} {end}");
            }
            assert_eq!(read(&bytes), Hello::Name(Some("a.example".to_owned())));
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = hello(&[name_extension(&["a.example"])]);
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 16) as u8;
            }
            bytes.truncate(1 + state as usize % good.len());
            let _ = read(&bytes);
        }
    }
}
