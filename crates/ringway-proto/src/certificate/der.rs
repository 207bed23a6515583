//! DER (X.690): one value after the other, each with its tag and its length, and never more than there is.

use super::CertificateError;
use crate::reader::Reader;

/// BOOLEAN.
pub(super) const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTCTime.
pub(super) const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub(super) const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE and SEQUENCE OF.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub(super) const SET: u8 = 0x31;

/// A tag of the context, for something that is made of other values.
pub(super) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// A tag of the context, for something that is not.
pub(super) const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// A value: its tag and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

/// The values that stand one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values<'a>(Reader<'a>);

impl<'a> Values<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// Whether none is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one, whatever it is.
    pub(super) fn any(&mut self) -> Result<Value<'a>, CertificateError> {
        let tag = self.0.u8()?;
        // Tags of several bytes occur in no certificate.
        if tag & 0x1f == 0x1f {
            return Err(CertificateError);
        }
        let length = self.length()?;
        Ok(Value { tag, content: self.0.take(length)? })
    }

    /// What the next one holds, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], CertificateError> {
        let value = self.any()?;
        if value.tag == tag { Ok(value.content) } else { Err(CertificateError) }
    }

    /// The same if it has this tag; else nothing is read.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<&'a [u8]>, CertificateError> {
        match self.0.peek() {
            Some(next) if next == tag => self.take(tag).map(Some),
            _ => Ok(None),
        }
    }

    /// The next one with its tag and length.
    pub(super) fn whole(&mut self, tag: u8) -> Result<&'a [u8], CertificateError> {
        let before = self.0.rest();
        let start = self.0.position();
        self.take(tag)?;
        before.get(..self.0.position() - start).ok_or(CertificateError)
    }

    /// A length in its only form: the shortest one (X.690, section 10.1).
    fn length(&mut self) -> Result<usize, CertificateError> {
        let first = self.0.u8()?;
        let (length, least) = match first {
            0..=0x7f => return Ok(usize::from(first)),
            0x81 => (u32::from(self.0.u8()?), 0x80),
            0x82 => (u32::from(self.0.u16()?), 0x100),
            0x83 => (self.0.u24()?, 0x1_0000),
            // What is longer than 16 MiB, or says no length.
            _ => return Err(CertificateError),
        };
        if length < least {
            Err(CertificateError)
        } else {
            usize::try_from(length).map_err(|_| CertificateError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form_only() {
        let read = |bytes: &[u8]| Values::new(bytes).take(OCTET_STRING).map(<[u8]>::len);
        assert_eq!(read(&[4, 0]), Ok(0));
        assert_eq!(read(&[4, 2, 7, 7]), Ok(2));
        assert_eq!(read(&[4, 3, 7, 7]), Err(CertificateError), "more than there is");
        assert_eq!(read(&[4, 0x81, 2, 7, 7]), Err(CertificateError), "longer than it has to be");
        assert_eq!(read(&[4, 0x80, 0, 0]), Err(CertificateError), "without a length");
        assert_eq!(read(&[4, 0x84, 0, 0, 0, 1, 7]), Err(CertificateError));
        let long = [&[4, 0x82, 1, 0][..], &[0; 256]].concat();
        assert_eq!(read(&long), Ok(256));
        assert_eq!(read(&[0x1f, 0x81, 1, 0]), Err(CertificateError), "a tag of several bytes");
    }
}
