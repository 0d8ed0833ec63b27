//! Every byte once, or a gap that says so.

use anyhow::Result;
use kube::api::DeleteParams;
use qwex_core::Ending;
use qwex_runner::{Runner as _, Watcher as _};
use qwex_testbed::http_proxy::{Amount, Answer, HttpProxy, Rule, Verb};
use qwex_testbed::{require, shared, wait};

use crate::rig::{LIMIT, Log, Rig, shell};

#[tokio::test]
async fn d05_a_log_cut_again_and_again_is_whole() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let proxy = HttpProxy::for_user(alpha.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, alpha).await?;
    let listener = rig.listen();
    // Equal lines, in bursts, both streams, no newline at the end.
    let work = shell(
        "i=0; while [ $i -lt 40 ]; do seq 1 100; echo same; echo same; echo err >&2; i=$((i+1)); sleep 0.05; done; printf end",
    );
    rig.submit(&work).await?;
    for cut in [0, 1, 17, 1000, 4096, 10_000, 12_345, 20_000] {
        proxy.rule(
            Rule::new(Answer::Cut {
                after: Amount::Bytes(cut),
                clean: false,
            })
            .verb(Verb::Log)
            .times(1),
        );
    }
    let source = listener.log_of(&work).await?;
    let log = rig.whole_log(&source).await?;
    let round: String = (1..=100).map(|n| format!("{n}\n")).collect::<String>() + "same\nsame\n";
    let text = log.text();
    let out: String = text
        .split_inclusive('\n')
        .filter(|line| *line != "err\n")
        .collect();
    assert_eq!(out, round.repeat(40) + "end");
    assert_eq!(text.matches("err\n").count(), 40);
    assert_eq!(log.gaps, Vec::<String>::new());
    assert!(!log.cuts.is_empty(), "it was cut");
    assert_eq!(log.position.offset, log.bytes.len() as u64);

    let mut again = Log::default();
    again.read_on(&rig.backend, &source, false).await?;
    assert!(again.ended);
    assert_eq!(again.bytes, log.bytes, "read at once after the end");
    Ok(())
}

#[tokio::test]
async fn d05_a_log_closed_in_good_order_while_the_container_runs_is_a_cut() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let proxy = HttpProxy::for_user(alpha.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, alpha).await?;
    let listener = rig.listen();
    let work = shell("trap 'exit 0' TERM; seq 1 100; while :; do sleep 0.1; done");
    rig.submit(&work).await?;
    let source = listener.log_of(&work).await?;
    let cut = Answer::Cut {
        after: Amount::Events(10),
        clean: true,
    };
    proxy.rule(Rule::new(cut).verb(Verb::Log).query("follow=true").times(1));
    let mut log = Log::default();
    log.read_on(&rig.backend, &source, true).await?;
    assert!(!log.ended, "a running container has no end");
    assert_eq!(log.lines, 10);
    rig.backend.cancel(&rig.handle(&work, None)).await?;
    let whole = rig.whole_log(&source).await?;
    assert!(whole.ended);
    Ok(())
}

#[tokio::test]
async fn d06_a_burst_cut_in_the_middle_of_a_second() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let proxy = HttpProxy::for_user(alpha.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, alpha).await?;
    let listener = rig.listen();
    let work = shell("seq 1 5000");
    rig.submit(&work).await?;
    listener.ending(&work).await?;
    let source = listener.log_of(&work).await?;
    for cut in [60_000, 100_000, 150_000] {
        proxy.rule(
            Rule::new(Answer::Cut {
                after: Amount::Bytes(cut),
                clean: false,
            })
            .verb(Verb::Log)
            .times(1),
        );
    }
    let log = rig.whole_log(&source).await?;
    let expected: String = (1..=5000).map(|n| format!("{n}\n")).collect();
    assert!(
        log.text() == expected,
        "{} of {} bytes",
        log.bytes.len(),
        expected.len()
    );
    assert_eq!((log.lines, log.cuts.len(), log.gaps.len()), (5000, 3, 0));
    Ok(())
}

#[tokio::test]
async fn d09_any_bytes_and_d08_long_lines() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell(
        r"printf '\000\001\377\376 nul\n'; head -c 300000 /dev/zero | tr '\000' x; printf '\nla\rst\n\n\n'; printf '\303'",
    );
    rig.submit(&work).await?;
    listener.ending(&work).await?;
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    let mut expected = b"\x00\x01\xff\xfe nul\n".to_vec();
    expected.extend(std::iter::repeat_n(b'x', 300_000));
    expected.extend(b"\nla\rst\n\n\n\xc3");
    assert!(
        log.bytes == expected,
        "{} of {} bytes",
        log.bytes.len(),
        expected.len()
    );
    assert_eq!((log.lines, log.gaps.len()), (6, 0));
    Ok(())
}

#[tokio::test]
async fn d03_the_log_of_the_shortest_runs() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let works: Vec<_> = (0..20).map(|n| (n, shell(&format!("echo {n}")))).collect();
    for (_, work) in &works {
        rig.submit(work).await?;
    }
    for (n, work) in &works {
        let log = rig.whole_log(&listener.log_of(work).await?).await?;
        assert_eq!((log.text(), log.gaps.len()), (format!("{n}\n"), 0));
        assert_eq!(listener.ending(work).await?, Ending::Succeeded { verified: true });
    }
    Ok(())
}

#[tokio::test]
async fn d01_a_pod_that_is_gone_is_a_gap_and_an_end() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("echo one");
    rig.submit(&work).await?;
    listener.ending(&work).await?;
    let source = listener.log_of(&work).await?;
    rig.pods()
        .delete_collection(&DeleteParams::default().grace_period(0), &Default::default())
        .await?;
    qwex_testbed::wait::until(crate::rig::LIMIT, "the pod gone", || async {
        rig.pods_of(&work).await.ok()?.is_empty().then_some(())
    })
    .await?;
    let log = rig.whole_log(&source).await?;
    assert!(log.ended && log.bytes.is_empty());
    assert_eq!(log.gaps.len(), 1, "{:?}", log.gaps);
    assert!(log.gaps[0].contains("is gone"), "{:?}", log.gaps);
    Ok(())
}

#[tokio::test]
async fn d01_a_followed_log_outlives_the_deletion_of_its_pod() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done");
    rig.submit(&work).await?;
    let source = listener.log_of(&work).await?;
    let delete = async {
        let mut log = Log::default();
        while log.bytes.is_empty() {
            log.read_on(&rig.backend, &source, false).await?;
        }
        let pod = rig.running_pod(&work).await?;
        rig.pods()
            .delete(
                pod.metadata.name.as_deref().unwrap_or_default(),
                &DeleteParams::default(),
            )
            .await?;
        anyhow::Ok(())
    };
    let (log, deleted) = tokio::join!(rig.whole_log(&source), delete);
    deleted?;
    let log = log?;
    assert_eq!(
        (log.text().as_str(), log.gaps.len()),
        ("hello\nbye\n", 0),
        "{:?}",
        log.gaps
    );
    Ok(())
}

#[tokio::test]
async fn d04_a_followed_log_that_falls_silent_is_looked_after() -> Result<()> {
    require!(Go);
    // The simulated kubelet never ends a followed log.
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let work = shell("true");
    rig.simulate(&work, &[("run-for", "1s")]).await?;
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert!(log.ended && log.lines == 3, "{log:?}");
    Ok(())
}

#[tokio::test]
async fn d04_what_rotation_took_is_a_gap() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let rig = Rig::on(alpha).await?;
    let listener = rig.listen();
    // The kubelet rotates beyond 10 MiB, and looks every ten seconds.
    let work = shell("trap 'exit 0' TERM; echo first; seq -w 1 1600000; while :; do sleep 1; date; done");
    let handle = rig.submit(&work).await?;
    let source = listener.log_of(&work).await?;
    let mut early = Log::default();
    while early.bytes.is_empty() {
        early.read_on(&rig.backend, &source, false).await?;
    }
    let rotated = || async {
        let mut now = Log::default();
        now.read_on(&rig.backend, &source, false).await.ok()?;
        (!now.bytes.is_empty() && !now.text().starts_with("first")).then_some(())
    };
    wait::until(LIMIT, "the rotation", rotated).await?;
    let before = early.gaps.len();
    early.read_on(&rig.backend, &source, false).await?;
    assert_eq!((before, early.gaps.len()), (0, 1), "{:?}", early.gaps);
    assert!(early.gaps[0].contains("rotated"), "{:?}", early.gaps);
    rig.backend.cancel(&handle).await?;
    Ok(())
}

#[tokio::test]
async fn d04_what_rotation_took_before_the_first_read_is_a_gap() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work =
        shell("trap 'exit 0' TERM; echo first; sleep 4; seq -w 1 1600000; while :; do sleep 1; date; done");
    let handle = rig.submit(&work).await?;
    let source = listener.log_of(&work).await?;
    // Each look is the first one of somebody who comes then.
    let rotated = || async {
        let mut now = Log::default();
        now.read_on(&rig.backend, &source, false).await.ok()?;
        let is_begin = now.text().starts_with("first");
        assert!(!is_begin || now.gaps.is_empty(), "{:?}", now.gaps);
        (!now.bytes.is_empty() && !is_begin).then_some(now)
    };
    let late = wait::until(LIMIT, "the rotation", rotated).await?;
    assert_eq!(late.gaps.len(), 1, "{:?}", late.gaps);
    assert!(
        late.gaps[0].contains("what came before is missing"),
        "{:?}",
        late.gaps
    );
    rig.backend.cancel(&handle).await?;
    Ok(())
}

#[tokio::test]
async fn d04_a_program_that_is_silent_at_first_has_its_whole_log() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("sleep 5; echo one; sleep 1; echo two");
    rig.submit(&work).await?;
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!((log.text().as_str(), log.gaps), ("one\ntwo\n", Vec::new()));
    Ok(())
}

#[tokio::test]
async fn d02_a_log_that_its_node_never_gives_is_a_gap_and_an_end() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let proxy = HttpProxy::for_user(alpha.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, alpha).await?;
    let listener = rig.listen();
    let work = shell("echo one");
    rig.submit(&work).await?;
    listener.ending(&work).await?;
    let source = listener.log_of(&work).await?;
    // As of a container whose status is not known any more (ContainerStatusUnknown).
    proxy.rule(Rule::new(Answer::status(400)).verb(Verb::Log));
    let log = rig.whole_log(&source).await?;
    assert!(
        log.ended && log.bytes.is_empty() && log.cuts.is_empty(),
        "{log:?}"
    );
    assert_eq!(log.gaps.len(), 1, "{:?}", log.gaps);
    assert!(log.gaps[0].contains("scripted 400"), "{:?}", log.gaps);
    Ok(())
}

#[tokio::test]
async fn logs_are_listed_and_wait_for_their_container() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("echo x; sleep 1");
    let handle = rig.submit(&work).await?;
    let told = listener.log_of(&work).await?;
    let listed = rig.backend.list_logs(&handle).await?;
    assert_eq!(listed, std::slice::from_ref(&told));
    let mut stranger = told;
    stranger.episode = qwex_core::EpisodeId("another".to_owned());
    let log = rig.whole_log(&stranger).await?;
    assert!(
        log.bytes.is_empty() && log.gaps[0].contains("another of that name"),
        "{log:?}"
    );
    Ok(())
}
