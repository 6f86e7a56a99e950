//! The addresses of both families, IPv6 and IPv4: one that nobody tells does not hold up the other.

use std::pin::pin;
use std::time::Duration;

use super::Nowhere;

/// How long the answer for one family is waited for once the other has addresses. RFC 8305 §3 has
/// 50 ms, for people who look at a screen; servers rather have both.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

/// What is found for one family.
type Found<T> = Result<Vec<T>, Nowhere>;

/// Waits for both, but for the later one not long where there is something already.
pub(super) async fn both<T>(
    v6: impl Future<Output = Found<T>>,
    v4: impl Future<Output = Found<T>>,
) -> (Found<T>, Found<T>) {
    let (mut v6, mut v4) = (pin!(v6), pin!(v4));
    tokio::select! {
        found = &mut v6 => {
            let other = after(&found, v4).await;
            (found, other)
        }
        found = &mut v4 => {
            let other = after(&found, v6).await;
            (other, found)
        }
    }
}

async fn after<T>(found: &Found<T>, other: impl Future<Output = Found<T>>) -> Found<T> {
    if !found.as_ref().is_ok_and(|found| !found.is_empty()) {
        return other.await;
    }
    let other = tokio::time::timeout(OTHER_FAMILY, other).await;
    other.unwrap_or_else(|_| {
        let late = "the DNS does not answer in time".to_owned();
        Err(Nowhere::Unknown(late))
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{Instant, sleep};

    use super::*;

    async fn late() -> Found<u8> {
        sleep(Duration::from_secs(12)).await;
        Ok(vec![6])
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_nobody_tells_does_not_hold_up_the_other() {
        let start = Instant::now();
        let (v6, v4) = both(pending(), ready(Ok(vec![4]))).await;
        assert!(v6.is_err() && v4 == Ok(vec![4]));
        let (v6, v4) = both(ready(Ok(vec![6])), pending()).await;
        assert!(v4.is_err() && v6 == Ok(vec![6]));
        assert_eq!(start.elapsed(), OTHER_FAMILY * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn where_one_family_has_nothing_the_other_is_waited_for() {
        let none = || Err(Nowhere::NotFound("no address".to_owned()));
        let (v6, v4) = both(late(), ready(none())).await;
        assert_eq!((v6, v4), (Ok(vec![6]), none()));
        let (v6, v4) = both(ready(Ok(Vec::new())), late()).await;
        assert_eq!((v6, v4), (Ok(Vec::new()), Ok(vec![6])));
    }
}
