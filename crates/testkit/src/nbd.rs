//! The server's half of the network block device protocol (NBD, fixed newstyle, simple replies), as much of it as QEMU needs
//! for one disk. Whatever the other half says is held against limits.

use std::io::{self, ErrorKind, Read, Write};

/// All lengths and places on a disk are multiples of it.
pub(crate) const SECTOR_BYTES: usize = 512;
/// As much as QEMU asks for at once.
const REQUEST_BYTES_MAX: u32 = 32 << 20;
/// QEMU asks for five options, of a hundred bytes at most.
const OPTIONS_MAX: usize = 64;
const OPTION_BYTES_MAX: u32 = 4096;

/// The least, the best and the most that should be asked for at once.
const BLOCKS_BYTES: [u32; 3] = [512, 4096, REQUEST_BYTES_MAX];

const GREETING: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Fixed newstyle, and no zeros behind the answer to `OPTION_EXPORT_NAME`.
const HANDSHAKE_FLAGS: u16 = 0b11;
/// There are flags, it can be flushed, and single writes can be forced to the platter.
const DISK_FLAGS: u16 = 0b1101;
const FORCED: u16 = 1;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const ACKNOWLEDGED: u32 = 1;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = (1 << 31) + 1;
const INVALID: u32 = (1 << 31) + 3;
const INFORMATION_DISK: u16 = 0;
const INFORMATION_BLOCK: u16 = 3;

const ERROR_INPUT_OUTPUT: u32 = 5;
const ERROR_INVALID: u32 = 22;

/// What somebody asks of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    /// `is_forced`: it is on the platter before it is answered.
    Write {
        is_forced: bool,
    },
    Flush,
    Disconnect,
    /// Something we never said we could.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// A disk that is asked over a socket.
pub(crate) trait Disk {
    /// Its size; a multiple of [`SECTOR_BYTES`].
    fn bytes(&self) -> u64;

    /// Reads, writes or flushes; the request lies within the disk, and `data` is as long as it says. None: there is no power.
    fn carry_out(&self, request: &Request, data: &mut [u8]) -> Option<io::Result<()>>;
}

/// Answers until the other side has had enough. A disk without power says nothing any more, and listens to nothing.
///
/// # Errors
/// The other side doesn't keep to the protocol, or is gone in the middle of a sentence.
pub(crate) fn serve(mut stream: impl Read + Write, disk: &impl Disk) -> io::Result<()> {
    if !shake_hands(&mut stream, disk.bytes())? {
        return Ok(());
    }
    let mut data = Vec::new();
    loop {
        let mut head = [0; 28];
        stream.read_exact(&mut head)?;
        let request = parse(&head).ok_or_else(|| broken("not a request"))?;
        if request.length > REQUEST_BYTES_MAX {
            return Err(broken("a request that is too long"));
        }
        let length = match request.kind {
            Kind::Read | Kind::Write { .. } => request.length as usize,
            Kind::Flush | Kind::Other => 0,
            Kind::Disconnect => return Ok(()),
        };
        data.resize(length, 0);
        if matches!(request.kind, Kind::Write { .. }) {
            stream.read_exact(&mut data)?;
        }
        let error = if fits(&request, disk.bytes()) {
            match disk.carry_out(&request, &mut data) {
                None => return io::copy(&mut stream, &mut io::sink()).map(drop),
                Some(Ok(())) => 0,
                Some(Err(_)) => ERROR_INPUT_OUTPUT,
            }
        } else {
            ERROR_INVALID
        };
        let mut reply = Vec::with_capacity(16);
        reply.extend(REPLY.to_be_bytes());
        reply.extend(error.to_be_bytes());
        reply.extend(request.handle.to_be_bytes());
        stream.write_all(&reply)?;
        if request.kind == Kind::Read && error == 0 {
            stream.write_all(&data)?;
        }
        stream.flush()?;
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Bytes at a place whose length the caller knows.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn parse(head: &[u8; 28]) -> Option<Request> {
    if u32::from_be_bytes(field(head, 0)?) != REQUEST {
        return None;
    }
    let flags = u16::from_be_bytes(field(head, 4)?);
    let kind = match u16::from_be_bytes(field(head, 6)?) {
        0 => Kind::Read,
        1 => Kind::Write {
            is_forced: flags & FORCED != 0,
        },
        2 => Kind::Disconnect,
        3 => Kind::Flush,
        _ => Kind::Other,
    };
    Some(Request {
        kind,
        handle: u64::from_be_bytes(field(head, 8)?),
        offset: u64::from_be_bytes(field(head, 16)?),
        length: u32::from_be_bytes(field(head, 24)?),
    })
}

fn fits(request: &Request, disk_bytes: u64) -> bool {
    let length = u64::from(request.length);
    let is_aligned = |number: u64| number.is_multiple_of(SECTOR_BYTES as u64);
    match request.kind {
        Kind::Flush => true,
        Kind::Disconnect | Kind::Other => false,
        Kind::Read | Kind::Write { .. } => {
            let end = request.offset.checked_add(length);
            length > 0
                && is_aligned(length)
                && is_aligned(request.offset)
                && end.is_some_and(|end| end <= disk_bytes)
        }
    }
}

/// Whether the other side wants the disk.
fn shake_hands(stream: &mut (impl Read + Write), disk_bytes: u64) -> io::Result<bool> {
    let mut greeting = Vec::new();
    greeting.extend(GREETING.to_be_bytes());
    greeting.extend(OPTION.to_be_bytes());
    greeting.extend(HANDSHAKE_FLAGS.to_be_bytes());
    stream.write_all(&greeting)?;
    stream.flush()?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    let mut disk = disk_bytes.to_be_bytes().to_vec();
    disk.extend(DISK_FLAGS.to_be_bytes());
    for _ in 0..OPTIONS_MAX {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let (magic, option) = (field(&head, 0), field(&head, 8).map(u32::from_be_bytes));
        let length = field(&head, 12).map_or(0, u32::from_be_bytes);
        let Some(option) = option.filter(|_| magic == Some(OPTION.to_be_bytes())) else {
            return Err(broken("not an option"));
        };
        if length > OPTION_BYTES_MAX {
            return Err(broken("an option that is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_EXPORT_NAME => {
                stream.write_all(&disk)?;
                stream.flush()?;
                return Ok(true);
            }
            OPTION_ABORT => {
                reply(stream, option, ACKNOWLEDGED, &[])?;
                return Ok(false);
            }
            OPTION_GO if is_go(&data) => {
                let about_disk = [&INFORMATION_DISK.to_be_bytes()[..], &disk].concat();
                reply(stream, option, INFORMATION, &about_disk)?;
                let blocks = BLOCKS_BYTES.map(u32::to_be_bytes);
                let about_blocks =
                    [&INFORMATION_BLOCK.to_be_bytes()[..], &blocks.concat()].concat();
                reply(stream, option, INFORMATION, &about_blocks)?;
                reply(stream, option, ACKNOWLEDGED, &[])?;
                return Ok(true);
            }
            OPTION_GO => reply(stream, option, INVALID, &[])?,
            _ => reply(stream, option, UNSUPPORTED, &[])?,
        }
    }
    Err(broken("options without end"))
}

/// A name, and a list of what the other side would like to know; whatever that is, it is told all there is.
fn is_go(data: &[u8]) -> bool {
    let name_bytes = field(data, 0).map_or(0, u32::from_be_bytes) as usize;
    let asked = field(data, 4 + name_bytes).map(u16::from_be_bytes);
    asked.is_some_and(|asked| data.len() == 4 + name_bytes + 2 + 2 * usize::from(asked))
}

fn reply(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(|_| broken("an answer that is too long"))?;
    let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
    for number in [option, kind, length] {
        reply.extend(number.to_be_bytes());
    }
    reply.extend(data);
    stream.write_all(&reply)?;
    stream.flush()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::io::{self, Cursor, Read, Write};

    use super::*;

    /// What the other half says to get the disk.
    pub(crate) fn hello() -> Vec<u8> {
        let mut said = 3_u32.to_be_bytes().to_vec();
        // One that we don't know, then the disk of an empty name, with its block sizes.
        for (option, data) in [(8, &[][..]), (OPTION_GO, &[0, 0, 0, 0, 0, 1, 0, 3][..])] {
            said.extend(OPTION.to_be_bytes());
            said.extend(u32::to_be_bytes(option));
            said.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            said.extend(data);
        }
        said
    }

    /// How much is answered to [`hello`].
    pub(crate) const HELLO_ANSWER_BYTES: usize = 18 + 20 + (20 + 12) + (20 + 14) + 20;

    pub(crate) fn request(kind: u16, flags: u16, offset: u64, length: u32) -> Vec<u8> {
        let mut said = REQUEST.to_be_bytes().to_vec();
        said.extend(flags.to_be_bytes());
        said.extend(kind.to_be_bytes());
        said.extend(7_u64.to_be_bytes());
        said.extend(offset.to_be_bytes());
        said.extend(length.to_be_bytes());
        said
    }

    pub(crate) fn answer(error: u32) -> Vec<u8> {
        let mut said = REPLY.to_be_bytes().to_vec();
        said.extend(error.to_be_bytes());
        said.extend(7_u64.to_be_bytes());
        said
    }

    struct Line {
        heard: Cursor<Vec<u8>>,
        said: Vec<u8>,
    }

    impl Read for &mut Line {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.heard.read(buffer)
        }
    }

    impl Write for &mut Line {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.said.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Eight sectors, and what was asked of them; after three requests the power goes.
    #[derive(Default)]
    struct Noted(RefCell<Vec<Request>>);

    impl Disk for Noted {
        fn bytes(&self) -> u64 {
            4096
        }

        fn carry_out(&self, request: &Request, data: &mut [u8]) -> Option<io::Result<()>> {
            let mut noted = self.0.borrow_mut();
            if noted.len() == 3 {
                return None;
            }
            noted.push(*request);
            data.fill(0xaa);
            Some(Ok(()))
        }
    }

    /// What was answered after the handshake, what was asked of the disk, and how it ended.
    fn say(words: &[Vec<u8>]) -> (Vec<u8>, Vec<Kind>, io::Result<()>) {
        let mut line = Line {
            heard: Cursor::new([hello(), words.concat()].concat()),
            said: Vec::new(),
        };
        let disk = Noted::default();
        let ended = serve(&mut line, &disk);
        let kinds = disk.0.borrow().iter().map(|request| request.kind).collect();
        (line.said.split_off(HELLO_ANSWER_BYTES), kinds, ended)
    }

    const WRITE: Kind = Kind::Write { is_forced: false };
    const FORCED_WRITE: Kind = Kind::Write { is_forced: true };

    #[test]
    fn reads_writes_and_flushes_are_answered() {
        let (said, asked, ended) = say(&[
            request(0, 0, 512, 1024),
            request(1, 1, 0, 512),
            vec![1; 512],
            request(3, 0, 0, 0),
            request(2, 0, 0, 0),
        ]);
        let expected = [answer(0), vec![0xaa; 1024], answer(0), answer(0)].concat();
        assert_eq!(said, expected);
        assert_eq!(asked, [Kind::Read, FORCED_WRITE, Kind::Flush]);
        assert!(ended.is_ok());
    }

    #[test]
    fn what_does_not_fit_the_disk_is_refused() {
        for (offset, length) in [
            (1, 512),
            (0, 511),
            (0, 0),
            (4096, 512),
            (3584, 1024),
            (u64::MAX - 511, 512),
        ] {
            let (said, asked, _) = say(&[request(0, 0, offset, length)]);
            assert_eq!(said, answer(22), "{offset} {length}");
            assert!(asked.is_empty());
        }
        let (said, asked, _) = say(&[request(4, 0, 0, 512)]);
        assert_eq!(
            (said, asked),
            (answer(22), vec![]),
            "nobody offered to trim"
        );
    }

    #[test]
    fn a_torn_write_is_none_and_strangers_are_not_listened_to() {
        let (said, asked, ended) = say(&[request(1, 0, 0, 512), vec![1; 511]]);
        assert_eq!((said.len(), asked.len()), (0, 0));
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let (_, _, ended) = say(&[request(0, 0, 0, (32 << 20) + 512)]);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidData);
        let (_, _, ended) = say(&[vec![0; 28]]);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn without_power_nothing_is_answered() {
        let write = [request(1, 0, 0, 512), vec![1; 512]].concat();
        let (said, asked, ended) = say(&vec![write; 5]);
        assert_eq!(said, answer(0).repeat(3));
        assert_eq!(asked, [WRITE; 3]);
        assert!(ended.is_ok());
    }

    #[test]
    fn a_handshake_is_held_against_limits() {
        let told = |words: Vec<u8>| {
            let mut line = Line {
                heard: Cursor::new(words),
                said: Vec::new(),
            };
            let wants = shake_hands(&mut &mut line, 4096);
            (line.said, wants)
        };
        let option = |option: u32, length: u32| {
            let mut said = OPTION.to_be_bytes().to_vec();
            said.extend(option.to_be_bytes());
            said.extend(length.to_be_bytes());
            said
        };
        let flags = vec![0, 0, 0, 3];
        let (said, wants) = told([flags.clone(), option(OPTION_EXPORT_NAME, 0)].concat());
        assert!(wants.unwrap());
        assert_eq!(said[18..], [0, 0, 0, 0, 0, 0, 16, 0, 0, 0b1101]);
        let (_, wants) = told([flags.clone(), option(OPTION_ABORT, 0)].concat());
        assert!(!wants.unwrap());
        // A list that is longer than it says is refused, not believed.
        let go = [option(OPTION_GO, 7), vec![0, 0, 0, 0, 0, 1, 0]].concat();
        let (said, wants) = told([flags.clone(), go].concat());
        assert_eq!(said[18 + 12..18 + 16], INVALID.to_be_bytes());
        assert!(wants.is_err());
        let endless = option(99, 0).repeat(OPTIONS_MAX + 1);
        for words in [option(99, 5000), vec![0; 16], endless] {
            let (_, wants) = told([flags.clone(), words].concat());
            assert_eq!(wants.unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }
}
