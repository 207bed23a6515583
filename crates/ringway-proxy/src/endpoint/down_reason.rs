//! Why an endpoint does not get connections.

use super::DialFailure;

/// Why an endpoint is down or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// It could not be connected to.
    Dial(DialFailure),
    /// It did not answer a check as expected; the endpoint keeps what it did answer.
    Answer,
    /// Too many of its connections failed; the endpoint keeps how many.
    Failures,
}

impl DownReason {
    /// The word for logs and the status page, where there are no details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial(failure) => failure.as_str(),
            Self::Answer => "unexpected_answer",
            Self::Failures => "failures",
        }
    }

    /// The reason of a word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        let dials = DialFailure::ALL.iter().copied().map(Self::Dial);
        dials.chain([Self::Answer, Self::Failures]).find(|reason| reason.as_str() == word)
    }

    /// A number from 1 to 15.
    pub(super) fn encode(self) -> u64 {
        match self {
            Self::Dial(failure) => failure as u64 + 1,
            Self::Answer => 15,
            Self::Failures => 14,
        }
    }

    /// The reason of a number; 0 is none.
    pub(super) fn decode(number: u64) -> Option<Self> {
        match number {
            15 => Some(Self::Answer),
            14 => Some(Self::Failures),
            number => {
                DialFailure::ALL.iter().find(|failure| **failure as u64 + 1 == number).map(|f| Self::Dial(*f))
            }
        }
    }
}

impl From<DialFailure> for DownReason {
    fn from(failure: DialFailure) -> Self {
        Self::Dial(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_word_and_by_its_number() {
        let dials = DialFailure::ALL.iter().copied().map(DownReason::Dial);
        for reason in dials.chain([DownReason::Answer, DownReason::Failures]) {
            assert_eq!(DownReason::from_word(reason.as_str()), Some(reason));
            assert_eq!(DownReason::decode(reason.encode()), Some(reason));
        }
        assert_eq!((DownReason::from_word("moon"), DownReason::decode(0)), (None, None));
    }
}
