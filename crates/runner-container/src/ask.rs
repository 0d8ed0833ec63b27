//! Questions to the engine: calls that change nothing. podman reads `/proc` for its answer, and says 500 of a container
//! whose command ends in the middle of that; the same question is then asked again, for the next answer is whole. Used by
//! every read of this crate, and by those calls that may be repeated (a signal to what just ended, a removal).

use std::time::Duration;

use bollard::errors::Error;
use futures::{Stream, StreamExt};

use crate::errors;

/// Before each further try. podman looks at the container anew each time, so the first is mostly enough.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

#[derive(Debug, Default)]
struct Tries(usize);

impl Tries {
    /// Whether the same question may have an answer now; after a pause.
    async fn again(&mut self, error: &Error) -> bool {
        let pause = PAUSES.get(self.0).filter(|_| errors::is_passing(error));
        let Some(pause) = pause else { return false };
        self.0 += 1;
        tokio::time::sleep(*pause).await;
        true
    }
}

/// One answer.
///
/// # Errors
/// As the engine said; after some tries also what should have passed.
pub async fn ask<T, A>(question: impl Fn() -> A) -> Result<T, Error>
where
    A: Future<Output = Result<T, Error>>,
{
    let mut tries = Tries::default();
    loop {
        match question().await {
            Err(error) if tries.again(&error).await => {}
            answer => return answer,
        }
    }
}

/// An answer in pieces; nothing is asked again once the first of them is there.
pub fn ask_stream<T, S>(question: impl Fn() -> S) -> impl Stream<Item = Result<T, Error>>
where
    S: Stream<Item = Result<T, Error>>,
{
    async_stream::stream! {
        let mut tries = Tries::default();
        loop {
            let mut pieces = std::pin::pin!(question());
            let first = pieces.next().await;
            if let Some(Err(error)) = &first
                && tries.again(error).await
            {
                continue;
            }
            let Some(first) = first else { return };
            yield first;
            while let Some(piece) = pieces.next().await {
                yield piece;
            }
            return;
        }
    }
}
