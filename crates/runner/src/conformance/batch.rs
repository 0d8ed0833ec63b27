//! The laws of one backend judged at the same time, for a backend that takes its time rather than the machine's: judged
//! as many at once as there are processors, it would be waited for most of the time. Each law still is a test of its
//! own, which waits here for its answer. Used by [`crate::conformance!`] with `at_once`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use futures::future::LocalBoxFuture;

use super::record::{self, Answer};
use super::{CASES, Case, Subject};

/// Laws judged at the same time.
const AT_ONCE: usize = 8;

/// The laws of one column.
pub struct Batch {
    column: &'static str,
    /// Where its tests stand.
    module: &'static str,
    subject: fn() -> LocalBoxFuture<'static, Subject>,
    laws: Mutex<Laws>,
    /// Told whenever one more was judged.
    judged: Condvar,
}

struct Laws {
    asked: BTreeSet<&'static str>,
    waiting: VecDeque<&'static Case>,
    found: BTreeMap<&'static str, Result<Answer, String>>,
}

impl Batch {
    /// `subject` makes a new subject for each law.
    #[must_use]
    pub const fn new(
        column: &'static str,
        module: &'static str,
        subject: fn() -> LocalBoxFuture<'static, Subject>,
    ) -> Self {
        Self {
            column,
            module,
            subject,
            laws: Mutex::new(Laws {
                asked: BTreeSet::new(),
                waiting: VecDeque::new(),
                found: BTreeMap::new(),
            }),
            judged: Condvar::new(),
        }
    }

    /// Waits for the answer to a law and holds it against the record.
    ///
    /// # Errors
    /// As [`record::hold`].
    pub fn hold(&'static self, name: &'static str) -> Result<(), String> {
        self.ask(name);
        let mut laws = self.laws();
        let found = loop {
            if let Some(found) = laws.found.remove(name) {
                break found;
            }
            laws = self.judged.wait(laws).unwrap_or_else(PoisonError::into_inner);
        };
        drop(laws);
        record::hold(self.column, name, found)
    }

    /// With the first law that is asked for begin all whose tests are going to ask.
    fn ask(&'static self, name: &'static str) {
        let mut laws = self.laws();
        let mut begun = 0;
        for case in CASES {
            let will_be_asked = case.name == name || is_selected(&format!("{}::{}", self.module, case.name));
            if will_be_asked && laws.asked.insert(case.name) {
                laws.waiting.push_back(case);
                begun += 1;
            }
        }
        for _ in 0..AT_ONCE.min(begun) {
            std::thread::spawn(|| self.judge_all());
        }
    }

    fn judge_all(&self) {
        while let Some(case) = self.next() {
            let found = self.judge(case);
            self.laws().found.insert(case.name, found);
            self.judged.notify_all();
        }
    }

    fn next(&self) -> Option<&'static Case> {
        self.laws().waiting.pop_front()
    }

    fn judge(&self, case: &Case) -> Result<Answer, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
        let judge = async {
            let subject = (self.subject)().await;
            let verdict = (case.law)(&subject).await;
            subject.answer(verdict)
        };
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(judge)))
            .unwrap_or_else(|_| Err("it panicked, with the words above".to_owned()))
    }

    fn laws(&self) -> MutexGuard<'_, Laws> {
        self.laws.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the words that the test binary was started with select a test; without any it runs all.
fn is_selected(test: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .peekable();
    words.peek().is_none() || words.any(|word| test.contains(&word))
}
