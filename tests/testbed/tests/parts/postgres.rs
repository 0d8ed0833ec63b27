//! The private Postgres: databases from a template, a crash that keeps what was committed, cut backends.

use anyhow::Result;
use qwex_testbed::postgres::Postgres;
use qwex_testbed::require;
use sqlx::{Connection, PgConnection};

async fn migrate(url: String) -> Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql("CREATE TABLE note (text text NOT NULL)")
        .execute(&mut connection)
        .await?;
    Ok(())
}

async fn write(connection: &mut PgConnection, text: &str) {
    sqlx::query("INSERT INTO note VALUES ($1)")
        .bind(text)
        .execute(connection)
        .await
        .unwrap();
}

async fn read(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT text FROM note ORDER BY text")
        .fetch_all(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    require!(Postgres);
    let postgres = Postgres::shared().await.unwrap();
    postgres.template(migrate).await.unwrap();
    let (one, two) = tokio::try_join!(postgres.database(), postgres.database()).unwrap();
    write(&mut PgConnection::connect(&one).await.unwrap(), "in one").await;
    assert_eq!(read(&one).await, ["in one"]);
    assert!(read(&two).await.is_empty());
}

#[tokio::test]
async fn a_crash_keeps_what_was_committed() {
    require!(Postgres);
    let postgres = Postgres::start().await.unwrap();
    postgres.template(migrate).await.unwrap();
    let url = postgres.database().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    write(&mut connection, "committed").await;
    let mut open = connection.begin().await.unwrap();
    write(&mut open, "not committed").await;

    postgres.crash().await.unwrap();
    assert!(PgConnection::connect(&url).await.is_err());
    assert!(open.commit().await.is_err());

    postgres.start_again().await.unwrap();
    assert_eq!(read(&url).await, ["committed"]);
}

#[tokio::test]
async fn terminated_backends_are_those_of_one_database() {
    require!(Postgres);
    let postgres = Postgres::shared().await.unwrap();
    let (cut, kept) = tokio::try_join!(postgres.database(), postgres.database()).unwrap();
    let mut victim = PgConnection::connect(&cut).await.unwrap();
    let mut bystander = PgConnection::connect(&kept).await.unwrap();

    assert_eq!(postgres.terminate_backends(&cut).await.unwrap(), 1);

    assert!(victim.ping().await.is_err());
    bystander.ping().await.unwrap();
}
