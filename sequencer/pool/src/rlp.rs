//! A reader of canonical RLP that hands out slices of its input. Whatever has two encodings is an error here, so that
//! the bytes of a transaction and its meaning determine each other.

use alloy_primitives::U256;

/// The bytes are not canonical RLP of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Invalid;

/// One RLP item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item<'a> {
    String(&'a [u8]),
    List(&'a [u8]),
}

/// Reads items from the front of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn end(self) -> Result<(), Invalid> {
        if self.rest.is_empty() { Ok(()) } else { Err(Invalid) }
    }

    fn split(&mut self, length: usize) -> Result<&'a [u8], Invalid> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(Invalid)?;
        self.rest = tail;
        Ok(head)
    }

    /// A length of more than 55, written in `bytes` bytes.
    fn long_length(&mut self, bytes: usize) -> Result<usize, Invalid> {
        let digits = self.split(bytes)?;
        if bytes > 4 || digits[0] == 0 {
            return Err(Invalid);
        }
        let length = digits.iter().fold(0usize, |sum, digit| sum << 8 | usize::from(*digit));
        if length < 56 { Err(Invalid) } else { Ok(length) }
    }

    #[inline]
    fn item(&mut self) -> Result<Item<'a>, Invalid> {
        let first = *self.rest.first().ok_or(Invalid)?;
        if first < 0x80 {
            return self.split(1).map(Item::String);
        }
        self.rest = &self.rest[1..];
        match first {
            0x80..=0xb7 => {
                let string = self.split(usize::from(first - 0x80))?;
                // A single byte below 0x80 stands for itself.
                if string.len() == 1 && string[0] < 0x80 { Err(Invalid) } else { Ok(Item::String(string)) }
            }
            0xb8..=0xbf => {
                let length = self.long_length(usize::from(first - 0xb7))?;
                self.split(length).map(Item::String)
            }
            0xc0..=0xf7 => self.split(usize::from(first - 0xc0)).map(Item::List),
            _ => {
                let length = self.long_length(usize::from(first - 0xf7))?;
                self.split(length).map(Item::List)
            }
        }
    }

    /// A byte string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Invalid> {
        match self.item()? {
            Item::String(string) => Ok(string),
            Item::List(_) => Err(Invalid),
        }
    }

    /// A byte string of exactly `N` bytes.
    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<&'a [u8; N], Invalid> {
        self.string()?.try_into().map_err(|_| Invalid)
    }

    /// A list, to be read by a reader of its own.
    pub(crate) fn list(&mut self) -> Result<Reader<'a>, Invalid> {
        match self.item()? {
            Item::List(payload) => Ok(Reader::new(payload)),
            Item::String(_) => Err(Invalid),
        }
    }

    /// The big-endian digits of an integer, without leading zeros; zero is the empty string.
    #[inline]
    fn digits(&mut self) -> Result<&'a [u8], Invalid> {
        let digits = self.string()?;
        if digits.first() == Some(&0) { Err(Invalid) } else { Ok(digits) }
    }

    /// An integer of at most 64 bits.
    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Invalid> {
        let digits = self.digits()?;
        if digits.len() > 8 {
            return Err(Invalid);
        }
        Ok(digits.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit)))
    }

    /// An integer of at most 256 bits.
    #[inline]
    pub(crate) fn u256(&mut self) -> Result<U256, Invalid> {
        let digits = self.digits()?;
        U256::try_from_be_slice(digits).ok_or(Invalid)
    }

    /// An integer of any size; `None` if it exceeds 256 bits.
    #[inline]
    pub(crate) fn wide(&mut self) -> Result<Option<U256>, Invalid> {
        let digits = self.digits()?;
        Ok(U256::try_from_be_slice(digits))
    }
}

/// Appends the header of a list whose payload has `length` bytes.
pub(crate) fn write_list_header(length: usize, out: &mut Vec<u8>) {
    if length < 56 {
        out.push(0xc0 + length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let skipped = length.leading_zeros() as usize / 8;
        out.push(0xf7 + (bytes.len() - skipped) as u8);
        out.extend_from_slice(&bytes[skipped..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_encoding() {
        assert_eq!(Reader::new(&[0x80]).u64(), Ok(0));
        assert_eq!(Reader::new(&[0x7f]).u64(), Ok(0x7f));
        assert_eq!(Reader::new(&[0x82, 1, 0]).u64(), Ok(256));
        for bytes in
            [&[0x00][..], &[0x81, 0x7f], &[0x82, 0, 1], &[0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[0xc0], &[]]
        {
            assert_eq!(Reader::new(bytes).u64(), Err(Invalid), "{bytes:02x?}");
        }
    }

    #[test]
    fn lengths_have_one_encoding() {
        let mut long = vec![0xb8, 56];
        long.extend([1; 56]);
        assert_eq!(Reader::new(&long).string(), Ok(&[1u8; 56][..]));
        for bytes in [
            &[0xb8, 1, 0x80][..],                            // short string in the long form
            &[0xb9, 0, 56],                                  // leading zero in the length
            &[0xbf, 255, 255, 255, 255, 255, 255, 255, 255], // lies about its length
            &[0xf8, 0],
            &[0x83, 1, 2],
        ] {
            assert!(Reader::new(bytes).item().is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn list_headers_are_read_as_written() {
        for length in [0usize, 1, 55, 56, 255, 256, 65_535, 65_536, 131_072] {
            let mut bytes = vec![];
            write_list_header(length, &mut bytes);
            bytes.resize(bytes.len() + length, 1);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.list().map(|l| l.rest().len()), Ok(length));
            assert_eq!(reader.end(), Ok(()));
        }
    }
}
