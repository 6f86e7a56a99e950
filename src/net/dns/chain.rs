//! What the messages of name servers say to a question, with the aliases that lead to it. Pure.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

/// Aliases that are followed for one question.
pub(super) const ALIASES_MAX: usize = 8;

/// Records of one answer that are looked at; no honest one has more.
const RECORDS_MAX: usize = 64;

/// An answer: records, or that there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Those that were asked for, behind aliases if there are any.
    pub records: Vec<RData>,
    /// The shortest life of what the answer follows from, in seconds, if it says one.
    pub ttl_s: Option<u32>,
    /// Signatures that we have checked ourselves secure every record that it follows from.
    pub is_secure: bool,
    /// Bytes of the messages that it came in.
    pub bytes: usize,
}

/// What a message says.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// The answer.
    Done(Answer),
    /// Only that this is the name to ask for.
    Alias(Name),
}

/// What has been read so far on the way through aliases.
#[derive(Debug, Default)]
pub(super) struct Chain {
    ttl_s: Option<u32>,
    is_insecure: bool,
    bytes: usize,
}

impl Chain {
    /// Reads the answer in a message, of so many bytes, to the question for `name`.
    pub(super) fn read(
        &mut self,
        message: &Message,
        bytes: usize,
        name: &Name,
        type_: RecordType,
    ) -> Read {
        self.bytes += bytes;
        let mut name = name;
        for followed in 0..=ALIASES_MAX {
            let mut records = Vec::new();
            let mut alias = None;
            for record in message.answers.iter().filter(|it| it.name == *name) {
                if record.record_type() == type_ {
                    if records.len() < RECORDS_MAX {
                        self.note(record.ttl, record.proof.is_secure());
                        records.push(record.data.clone());
                    }
                } else if let RData::CNAME(next) = &record.data
                    && alias.is_none()
                {
                    alias = Some((record, &next.0));
                }
            }
            match alias {
                None if records.is_empty() => return self.end(message, name, followed > 0),
                Some((record, next)) if records.is_empty() => {
                    self.note(record.ttl, record.proof.is_secure());
                    name = next;
                }
                _ => {
                    return Read::Done(Answer {
                        records,
                        ttl_s: self.ttl_s,
                        is_secure: !self.is_insecure,
                        bytes: self.bytes,
                    });
                }
            }
        }
        Read::Done(self.nothing(None))
    }

    /// There is nothing, and that counts for so many seconds.
    pub(super) fn nothing(&self, ttl_s: Option<u32>) -> Answer {
        Answer {
            ttl_s: ttl_s.map(|ttl_s| self.ttl_s.map_or(ttl_s, |least| least.min(ttl_s))),
            bytes: self.bytes,
            ..Answer::default()
        }
    }

    /// The message says nothing more of a name.
    fn end(&self, message: &Message, name: &Name, is_alias: bool) -> Read {
        let soa = message
            .authorities
            .iter()
            .find_map(|record| match &record.data {
                // RFC 2308 §5.
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
        let is_nowhere = message.metadata.response_code == ResponseCode::NXDomain;
        match is_alias && soa.is_none() && !is_nowhere {
            true => Read::Alias(name.clone()),
            false => Read::Done(self.nothing(soa)),
        }
    }

    fn note(&mut self, ttl_s: u32, is_secure: bool) {
        self.ttl_s = Some(self.ttl_s.map_or(ttl_s, |least| least.min(ttl_s)));
        self.is_insecure |= !is_secure;
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::Proof;
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn address(last: u8) -> RData {
        RData::A(A::new(192, 0, 2, last))
    }

    fn alias(of: &str) -> RData {
        RData::CNAME(CNAME(name(of)))
    }

    fn message(answers: &[(&str, u32, RData)]) -> Message {
        let mut message = Message::query();
        for (owner, ttl_s, data) in answers {
            let mut record = Record::from_rdata(name(owner), *ttl_s, data.clone());
            record.proof = Proof::Secure;
            message.add_answer(record);
        }
        message
    }

    fn read(message: &Message) -> Read {
        Chain::default().read(message, 100, &name("a.test."), RecordType::A)
    }

    #[test]
    fn records_behind_aliases_are_found_and_the_shortest_life_counts() {
        let said = message(&[
            ("b.test.", 300, alias("c.test.")),
            ("a.test.", 60, alias("b.test.")),
            ("c.test.", 600, address(1)),
            ("c.test.", 500, address(2)),
            ("other.test.", 1, address(3)),
        ]);
        let answer = Answer {
            records: vec![address(1), address(2)],
            ttl_s: Some(60),
            is_secure: true,
            bytes: 100,
        };
        assert_eq!(read(&said), Read::Done(answer));
    }

    #[test]
    fn one_record_on_the_way_that_is_not_signed_makes_all_of_it_insecure() {
        for unsigned in 0..2 {
            let mut said = message(&[
                ("a.test.", 60, alias("b.test.")),
                ("b.test.", 60, address(1)),
            ]);
            said.answers[unsigned].proof = Proof::Insecure;
            let Read::Done(answer) = read(&said) else {
                panic!("an answer");
            };
            assert!(!answer.is_secure && !answer.records.is_empty());
        }
    }

    #[test]
    fn an_alias_without_its_target_is_asked_for() {
        let mut chain = Chain::default();
        let mut first = message(&[("a.test.", 60, alias("b.test."))]);
        first.answers[0].proof = Proof::Bogus;
        let asked = chain.read(&first, 100, &name("a.test."), RecordType::A);
        assert_eq!(asked, Read::Alias(name("b.test.")));
        let second = message(&[("b.test.", 90, address(1))]);
        let Read::Done(answer) = chain.read(&second, 50, &name("b.test."), RecordType::A) else {
            panic!("an answer");
        };
        assert_eq!((answer.ttl_s, answer.bytes), (Some(60), 150));
        assert!(!answer.is_secure, "the alias was not");
    }

    #[test]
    fn aliases_in_a_ring_lead_nowhere() {
        let said = message(&[
            ("a.test.", 60, alias("b.test.")),
            ("b.test.", 60, alias("a.test.")),
        ]);
        assert_eq!(
            read(&said),
            Read::Done(Answer {
                bytes: 100,
                ..Answer::default()
            })
        );
    }

    #[test]
    fn nothing_lives_as_long_as_its_zone_says() {
        let mut said = message(&[]);
        let soa = SOA::new(name("ns.test."), name("m.test."), 1, 1, 1, 1, 30);
        let soa = Record::from_rdata(name("test."), 300, RData::SOA(soa));
        said.add_authority(soa);
        let Read::Done(answer) = read(&said) else {
            panic!("an answer");
        };
        assert_eq!(answer.ttl_s, Some(30));
        assert!(answer.records.is_empty() && !answer.is_secure);
    }

    #[test]
    fn too_many_records_are_cut() {
        let many: Vec<_> = (0..200)
            .map(|last| ("a.test.", 60, address(last)))
            .collect();
        let Read::Done(answer) = read(&message(&many)) else {
            panic!("an answer");
        };
        assert_eq!(answer.records.len(), RECORDS_MAX);
    }
}
