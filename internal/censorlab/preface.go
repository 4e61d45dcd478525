package censorlab

// preface stands at the head of docs/scorecard.md.
const preface = `# Scorecard: what arrives, when censors do what

Written by

    go test -tags lab ./internal/censorlab -run Scorecard -args -write docs/scorecard.md

and never by hand. A reader who has just been given an invite opens the program
for the first time, in each scenario of the censor lab and in each pair of
scenarios that leaves a way open. Publisher, relays, name server, IPFS node and
the reader's engine are the real ones, on a simulated net with a fake clock:
100 ms from the reader to every server abroad, 10 ms to the ISP's resolver, 50
Mbit/s down and 10 up. The invite leads to two relays (one by a name that the
censor lists, one by an address), to one of them behind a CDN's name, to a DNS
zone through the ISP's resolver, to an IPFS peer and a public gateway.

- Times are round trips of 100 ms from the start, medians of the seeds, rounded
  to 0.1; a dash means that it never came.
- *Best way alone* is the time to headlines of the fastest way if it is the only
  one a reader has. We may take a quarter more than that, plus the head start
  that quiet ways have over DNS (3 round trips).
- *Twice* is the share of blocks' bytes that came in vain: at most 3 %, 15 % on
  lines that lose packets and where servers lie.
- A row is ok if every reader got headlines, texts and, where a way that carries
  them is open, pictures, in the time allowed, and was shown nothing false.
- *Untouched*: nothing that we send is what this censor looks for (nobody is
  asked over DoH, no ClientHello has an ECH extension, no first packet looks
  random), so it did nothing to any of the readers.
- In ` + "`evil-relay`" + ` and ` + "`evil-peer`" + ` each reader meets another of the lies. One of them is
  a second history, signed with the channel's keys under coercion: a new reader
  can't know which of two is the true one, is shown the one heard first, with an
  alarm, and the proof is kept.
- **Not yet** names a counter-measure that is still to be built. Such a row
  counts as failing.
- What leaves no way open has no row. ` + "`offline`" + `: TestOffline (what was there stays readable, the program says within
  a minute and a half that nobody answers, a stick brings the rest). ` + "`seizure`" + `: TestSeizure in cmd. ` + "`prober`" + ` is the
  relay's own test.
- The last columns are *models* of what people use today, not the programs
  themselves: a small program of the lab plays their round trips, packets and
  bytes against the same censor, for news of the same size, in their best case.
  *Mirror site*: one HTTPS mirror in a browser, its name looked up at the ISP's
  resolver. *IPNS over IPFS*: a node that walks the DHT (a bootstrap node and
  three hops, twice) and fetches from one provider. *DNS tunnel*: 130 bytes up and
  900 down a query, 32 queries in flight. Given is the time to headlines.
  None of them notices an old or a forged page by itself.

Faults are drawn from the seed for each flow, but the order of goroutines is not
fixed, so a run differs a little from the next. Without -write (and with -pairs)
the same test fails when a row gets worse by more than 10 %; where chance
decides, if the median of nine readers, and then that of 27, is by more than
10 % slower than the slowest of these nine.
`
