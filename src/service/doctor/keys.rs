//! What a zone says of the keys of the server (TLSA; RFC 6698, RFC 7671, RFC 7673): whoever goes by
//! it refuses every other key. Pure.

use super::facts::{Facts, Keys, Offer, Shown};
use super::records;
use super::report::Finding;

const ID: &str = "tlsa";

pub(super) fn judge(facts: &Facts, offer: &Offer) -> Vec<Finding> {
    let each = facts.keys.iter();
    each.flat_map(|keys| of_place(keys, offer)).collect()
}

fn of_place(keys: &Keys, offer: &Offer) -> Vec<Finding> {
    let name = format!("_{}._tcp.{}", keys.port, keys.host);
    let published = match &keys.published {
        Err(why) => {
            let sentence = format!("{name} could not be looked up: {why}");
            return vec![Finding::warning(ID, sentence).mended_by(
                "check the zone's name servers, and the ones asked here: [dns] servers, or the machine's own",
            )];
        }
        Ok(published) => published,
    };
    if published.is_empty() {
        return vec![Finding::ok(
            ID,
            format!("there is no TLSA record at {name}, and none is needed"),
        )];
    }
    if keys.usable == 0 {
        let is_standing_alone = published.iter().any(|key| matches!(key.usage, 2 | 3));
        let sentence = match is_standing_alone {
            true => format!(
                "there are TLSA records at {name}, but they, or the records that lead there, are not \
                 signed as far as can be seen from here: nobody goes by them"
            ),
            false => format!(
                "the TLSA records at {name} are of usages 0 and 1, which other servers pass over \
                 (RFC 7673)"
            ),
        };
        return vec![Finding::note(ID, sentence)];
    }
    if keys.shown.is_empty() {
        let sentence = format!(
            "there are signed TLSA records at {name}, and no certificate to compare them with"
        );
        return vec![Finding::note(ID, sentence)];
    }
    let each = keys.shown.iter();
    each.map(|(shown, verdict)| of_certificate(&name, keys, shown, verdict, offer))
        .collect()
}

fn of_certificate(
    name: &str,
    keys: &Keys,
    shown: &Shown,
    verdict: &Result<(), String>,
    offer: &Offer,
) -> Finding {
    let why = match verdict {
        Ok(()) => {
            let sentence = format!("the signed TLSA records at {name} name what is shown there");
            return Finding::ok(ID, sentence);
        }
        Err(why) => why,
    };
    let sentence = format!(
        "the signed TLSA records at {name} do not let the certificate be that is shown there ({why}): \
         servers that go by them refuse it"
    );
    let record = records::key(&keys.host, keys.port, &shown.key_sha256);
    let step = match offer.acme {
        // Each renewal brings a new key.
        true => format!(
            "{record}\nor remove the records, because [acme] makes a new key at each renewal, which \
             this one would not name"
        ),
        false => record,
    };
    Finding::failure(ID, sentence).mended_by(step)
}
