//! Who asks, and what they may: tokens, principals, roles. Used by `http` for every request and by the services
//! that check a right or narrow a query. Knows the token table, nothing else.

mod cache;
mod principal;
mod secret;

use std::sync::Arc;

use sqlx::PgPool;

use crate::db::{DbError, token};

use cache::{Cache, Found};

pub use principal::{Principal, Scope};
pub use secret::{Malformed, TOKEN_REGEX, TokenHash, TokenText};

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the token is not well formed")]
    Malformed,
    #[error("the token is unknown or was revoked")]
    Unknown,
    #[error("the token expired at {at}")]
    Expired { at: jiff::Timestamp },
    #[error("failed to look up the token")]
    Db(#[from] DbError),
}

/// Looks up tokens. Answers are remembered for less than a second, so that a revoked token is refused within one.
#[derive(Clone)]
pub struct Auth {
    pool: PgPool,
    cache: Arc<Cache>,
}

impl Auth {
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            cache: Arc::new(Cache::default()),
        }
    }

    /// The principal of a token's text. A text with a wrong checksum does not reach the database.
    ///
    /// # Errors
    /// The token is not valid now, or the database does not answer.
    pub async fn authenticate(&self, text: &str) -> Result<Arc<Principal>, AuthError> {
        let token = TokenText::parse(text).map_err(|Malformed| AuthError::Malformed)?;
        let known = self.look_up(token.id()).await?;
        if !token.hash().matches(&known.secret_hash) {
            return Err(AuthError::Unknown);
        }
        admit(&known)
    }

    /// Whether a principal that was let in may stay: open streams ask this while they run.
    ///
    /// # Errors
    /// The token was revoked or has expired, or the database does not answer.
    pub async fn still_valid(&self, principal: &Principal) -> Result<(), AuthError> {
        let known = self.look_up(&principal.token_id).await?;
        admit(&known).map(|_| ())
    }

    /// Forgets what is remembered of a token, after it was revoked here.
    pub fn forget(&self, token_id: &str) {
        self.cache.forget(token_id);
    }

    async fn look_up(&self, id: &str) -> Result<Arc<Known>, AuthError> {
        match self.cache.get(id) {
            Found::Fresh(known) => return known.ok_or(AuthError::Unknown),
            Found::Absent => {}
        }
        let row = token::find_live(&self.pool, id).await?;
        if row.as_ref().is_some_and(|row| row.use_is_stale) {
            self.note_use(id.to_owned());
        }
        let known = row.map(|row| Arc::new(Known::new(id, row)));
        self.cache.put(id, known.clone());
        known.ok_or(AuthError::Unknown)
    }

    /// Off the path of the request: when a token was last used is a help for people, not a promise.
    fn note_use(&self, id: String) {
        let pool = self.pool.clone();
        tokio::spawn(async move {
            if let Err(error) = token::update_last_use(&pool, &id).await {
                tracing::debug!(%error, "the use of a token was not noted");
            }
        });
    }
}

/// A token row as it is remembered.
struct Known {
    principal: Arc<Principal>,
    secret_hash: Vec<u8>,
    expired: bool,
}

impl Known {
    fn new(id: &str, row: token::LiveToken) -> Self {
        Self {
            principal: Arc::new(Principal {
                token_id: id.to_owned(),
                name: row.name,
                project: row.project,
                role: row.role,
                expires_at: row.expires_at,
            }),
            secret_hash: row.secret_hash,
            expired: row.expired,
        }
    }
}

fn admit(known: &Known) -> Result<Arc<Principal>, AuthError> {
    match known.principal.expires_at {
        Some(at) if known.expired => Err(AuthError::Expired { at }),
        Some(_) | None => Ok(known.principal.clone()),
    }
}
