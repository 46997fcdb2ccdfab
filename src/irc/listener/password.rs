//! Hashing passwords: what the hub asks for and must not wait for. A few at a time, on threads of
//! their own: each takes 19 MiB and tens of milliseconds.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::irc::proto::accounts::Verifier;
use crate::irc::proto::hub::{Done, Work};

/// Hashes that are computed at once.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Does what the hub asked for.
pub async fn compute(work: Work) -> Done {
    let Ok(_place) = AT_ONCE.acquire().await else { return Done::Failed };
    tokio::task::spawn_blocking(move || blocking(work)).await.unwrap_or(Done::Failed)
}

/// argon2id with the parameters that OWASP names first: 19 MiB, 2 passes, 1 lane.
fn argon() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19 * 1024, 2, 1, None).unwrap_or_default())
}

fn blocking(work: Work) -> Done {
    match work {
        Work::Hash { password } => hash(&password).unwrap_or(Done::Failed),
        Work::Verify { password, hash: known } => match PasswordHash::new(&known) {
            Ok(known) => Done::Verified(argon().verify_password(password.as_bytes(), &known).is_ok()),
            // No such account: it takes as long as a wrong password.
            Err(_) => {
                let _ = hash(&password);
                Done::Verified(false)
            }
        },
    }
}

fn hash(password: &str) -> Option<Done> {
    let (mut salt, mut scram_salt) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).ok()?;
    getrandom::fill(&mut scram_salt).ok()?;
    let salt = SaltString::encode_b64(&salt).ok()?;
    let hash = argon().hash_password(password.as_bytes(), &salt).ok()?.to_string();
    Some(Done::Hashed { hash, scram: Verifier::of(password, &scram_salt) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other() {
        let Done::Hashed { hash, .. } = compute(Work::Hash { password: "sesame".into() }).await else {
            panic!("hashing works")
        };
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let verify = |password: &str| Work::Verify { password: password.into(), hash: hash.clone() };
        assert_eq!(compute(verify("sesame")).await, Done::Verified(true));
        assert_eq!(compute(verify("Sesame")).await, Done::Verified(false));
        let nobody = Work::Verify { password: "sesame".into(), hash: String::new() };
        assert_eq!(compute(nobody).await, Done::Verified(false));
    }
}
