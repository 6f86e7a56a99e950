//! When the authority wants a certificate to be renewed (RFC 9773).

use instant_acme::Account;

use super::order::identifier;
use crate::net::certificate::Life;

/// What the authority says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    /// From when until when, in milliseconds since 1970.
    pub(super) window_ms: (u64, u64),
    /// How long it wants to be left alone, in milliseconds.
    pub(super) again_ms: u64,
}

/// Asks the authority about a certificate; `None` where it says nothing of use.
pub(super) async fn suggestion(account: &Account, life: &Life) -> Option<Suggestion> {
    let (info, again) = account.renewal_info(&identifier(life)?).await.ok()?;
    let ms = |time_s: i64| u64::try_from(time_s).unwrap_or(0).saturating_mul(1_000);
    let window = info.suggested_window;
    Some(Suggestion {
        window_ms: (
            ms(window.start.unix_timestamp()),
            ms(window.end.unix_timestamp()),
        ),
        again_ms: u64::try_from(again.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{Request, Response};
    use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, NewAccount};

    use super::super::plan::{Held, Next, Record};
    use super::*;

    const AT: &str = "https://authority.example";
    const DAY_MS: u64 = 86_400_000;

    /// An authority that gives accounts, and has something to say of one certificate.
    #[derive(Clone, Default)]
    struct Authority {
        /// `None`: it knows nothing of RFC 9773.
        window: Option<(&'static str, &'static str)>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl HttpClient for Authority {
        fn request(
            &self,
            request: Request<BodyWrapper<Bytes>>,
        ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
            let path = request.uri().path().to_owned();
            self.asked.lock().expect("one thread").push(path.clone());
            let response = Response::builder()
                .header("replay-nonce", "abc")
                .header("retry-after", "21600")
                .header("location", format!("{AT}/account/1"));
            let (status, body) = match &*path {
                "/directory" => (200, self.directory()),
                "/account" => (201, "{\"status\":\"valid\"}".to_owned()),
                path if path.starts_with("/ari/") => (200, self.info()),
                _ => (200, String::new()),
            };
            let response = response.status(status).body(Full::new(Bytes::from(body)));
            let response = response.expect("it is well-formed");
            Box::pin(ready(Ok(response.into())))
        }
    }

    impl Authority {
        fn directory(&self) -> String {
            let ari = match self.window {
                Some(_) => format!(",\"renewalInfo\":\"{AT}/ari\""),
                None => String::new(),
            };
            format!(
                "{{\"newNonce\":\"{AT}/nonce\",\"newAccount\":\"{AT}/account\",\
                 \"newOrder\":\"{AT}/order\"{ari}}}"
            )
        }

        fn info(&self) -> String {
            let (start, end) = self.window.expect("it was offered");
            format!("{{\"suggestedWindow\":{{\"start\":\"{start}\",\"end\":\"{end}\"}}}}")
        }

        async fn account(&self) -> Account {
            let wanted = NewAccount {
                contact: &[],
                terms_of_service_agreed: true,
                only_return_existing: false,
            };
            let builder = Account::builder_with_http(Box::new(self.clone()));
            let made = builder.create(&wanted, format!("{AT}/directory"), None);
            made.await.expect("it gives one").0
        }
    }

    /// 90 days from the first of January 2026, known as in the example of RFC 9773 §4.1.
    fn life() -> Life {
        Life {
            names: vec!["chat.example".to_owned()],
            not_before_s: 1_767_225_600,
            not_after_s: 1_775_001_600,
            identifier: Some((
                b"\x69\x88\x5b\x6b\x87\x46\x40\x41\xe1\xb3\x7b\x84\x7b\xa0\xae\x2c\xde\x01\xc8\xd4"
                    .to_vec(),
                vec![0x00, 0x87, 0x65, 0x43, 0x21],
            )),
        }
    }

    /// What comes of it, so many days into the certificate's life.
    fn next(record: &Record, days: u64) -> Next {
        let (names, from_ms) = (life().names, 1_767_225_600_000);
        let held = Held {
            names: names.clone(),
            not_before_ms: from_ms,
            not_after_ms: from_ms + 90 * DAY_MS,
        };
        record.next(from_ms + days * DAY_MS, Some(&held), "directory", &names)
    }

    #[tokio::test]
    async fn the_window_of_the_authority_counts_in_place_of_two_thirds_of_the_life() {
        // Days 19 to 21 of the certificate's life.
        let authority = Authority {
            window: Some(("2026-01-20T00:00:00Z", "2026-01-22T00:00:00Z")),
            ..Authority::default()
        };
        let account = authority.account().await;
        let said = suggestion(&account, &life()).await.expect("it answers");
        let asked = authority.asked.lock().expect("one thread").pop();
        let path = "/ari/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
        assert_eq!(asked.as_deref(), Some(path));
        assert_eq!(said.window_ms, (1_768_867_200_000, 1_769_040_000_000));
        let six_hours = 21_595_000..=21_600_000;
        assert!(six_hours.contains(&said.again_ms), "{said:?}");
        let mut record = Record::default();
        record.begin("directory", &life().names);
        record.place = 500;
        let asked_ms = 1_767_225_600_000 + 18 * DAY_MS;
        record.asked(asked_ms, Some(said.window_ms), Some(said.again_ms));
        let again_ms = asked_ms + said.again_ms;
        assert_eq!(
            next(&record, 18),
            Next::Wait(again_ms),
            "it may change its mind"
        );
        assert_eq!(next(&record, 19), Next::Ask, "the window is not half over");
        assert_eq!(next(&record, 20), Next::Obtain);
    }

    #[tokio::test]
    async fn an_authority_without_windows_leaves_two_thirds_of_the_life() {
        let authority = Authority::default();
        let account = authority.account().await;
        assert_eq!(suggestion(&account, &life()).await, None);
        let mut record = Record::default();
        record.begin("directory", &life().names);
        record.asked(1_767_225_600_000 + 59 * DAY_MS, None, None);
        assert!(matches!(next(&record, 59), Next::Wait(_)));
        assert_eq!(next(&record, 60), Next::Obtain);
    }
}
