//! The times of certificates: always UTC, always with seconds (RFC 5280, section 4.1.2.5).

use super::CertificateError;

/// `YYMMDDHHMMSSZ`, of 1950 to 2049.
pub(super) fn utc(text: &[u8]) -> Result<i64, CertificateError> {
    let year = number(text, 0, 2)?;
    seconds(if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..).ok_or(CertificateError)?)
}

/// `YYYYMMDDHHMMSSZ`.
pub(super) fn generalized(text: &[u8]) -> Result<i64, CertificateError> {
    seconds(number(text, 0, 4)?, text.get(4..).ok_or(CertificateError)?)
}

/// Seconds since the beginning of 1970, in the calendar of Gregory.
fn seconds(year: i64, rest: &[u8]) -> Result<i64, CertificateError> {
    if rest.len() != 11 || rest[10] != b'Z' {
        return Err(CertificateError);
    }
    let part = |at| number(rest, at, 2);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return Err(CertificateError),
    };
    // A leap second is the last of its minute.
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return Err(CertificateError);
    }
    // Years begin in March, so that the day that is there in some years only is their last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let day = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year;
    // 1970-01-01 is the day of this number.
    Ok((day - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(text: &[u8], at: usize, digits: usize) -> Result<i64, CertificateError> {
    let text = text.get(at..at + digits).ok_or(CertificateError)?;
    text.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + i64::from(digit - b'0')),
        _ => Err(CertificateError),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_those_that_date_prints() {
        for (text, seconds) in [
            (&b"700101000000Z"[..], 0),
            (b"000229120000Z", 951_825_600),
            (b"491231235959Z", 2_524_607_999),
            (b"500101000000Z", -631_152_000),
            (b"261127025142Z", 1_795_747_902),
        ] {
            assert_eq!(utc(text), Ok(seconds), "{}", text.escape_ascii());
        }
        for (text, seconds) in [
            (&b"20500101000000Z"[..], 2_524_608_000),
            (b"21261103025142Z", 4_949_347_902),
            (b"99991231235959Z", 253_402_300_799),
            (b"00000101000000Z", -62_167_219_200),
        ] {
            assert_eq!(generalized(text), Ok(seconds), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_no_calendar_has_is_no_time() {
        for text in [
            &b""[..],
            b"2",
            b"260001000000Z",
            b"261301000000Z",
            b"260229000000Z",
            b"260431000000Z",
            b"260100000000Z",
            b"260101240000Z",
            b"260101006000Z",
            b"260101000061Z",
            b"260101000000",
            b"260101000000+",
            b"26010100000 Z",
            b"2601010000Z",
            b"260101000000Z0",
        ] {
            assert_eq!(utc(text), Err(CertificateError), "{}", text.escape_ascii());
        }
        assert_eq!(generalized(b"20260101000000.5Z"), Err(CertificateError));
    }
}
