package censorlab

// preface stands at the head of docs/scorecard.md.
const preface = `# Scorecard: what arrives, when censors do what

Written by

    go test ./internal/censorlab -run Scorecard -args -write docs/scorecard.md

and never by hand. A reader who has just been given an invite opens the program
for the first time, in each scenario of the censor lab and in each pair of
scenarios that leaves a way open. Publisher, relays, name server, IPFS node and
the reader's engine are the real ones, on a simulated net with a fake clock:
100 ms from the reader to every server abroad, 10 ms to the ISP's resolver, 50
Mbit/s down and 10 up. The invite leads to two relays (one by a name that the
censor lists, one by an address), to one of them behind a CDN's name, to a DNS
zone through the ISP's resolver, to an IPFS peer and a public gateway. The grant
that comes with the news tells of one relay that it has another port, too, and an
outer name to hide behind.

- Times are round trips of 100 ms from the start, medians of nine seeds, rounded
  to 0.1; a dash means that it never came. Where packets are lost, by the line or
  by who polices it, they are of 45 seeds, and of 90 if 45 did not show that all
  is in order.
- *Slowest* is the reader who waited longest for headlines; all other times are
  medians.
- *Best way alone* is the time to headlines of the fastest way if it is the only
  one a reader has. We may take a quarter more than that, plus the head start
  that quiet ways have over DNS (3 round trips).
- *Twice* is the share of blocks' bytes that came in vain: at most 3 %, 15 % where
  packets are lost. What liars sent, which no reader can help, stands behind it.
- A row is ok if every reader got headlines, texts and, where a way that carries
  them is open, pictures, in the time allowed, and was shown nothing false.
- *What we send is not what it looks for*: nothing that this censor stops was sent
  (nobody is asked over DoH, no ClientHello has an ECH extension or a listed name in
  one piece, no first packet looks random, no TCP connection carries much), so it
  did nothing to any of the readers. That alone would prove little. TestControls
  proves that the censor bites: for every row a small model of a reader who does
  what this censor looks for gets its answer in an open net and none, or a false
  one, in the scenario; and nearly all have a twin with the counter-measure on, who
  passes.
- In ` + "`evil-relay`" + ` and ` + "`evil-peer`" + ` each reader meets another of the lies, and in
  ` + "`evil-resolver`" + ` each answer is one of them. No median may hide one: the best way
  alone is the best way to the honest servers there, and the *slowest* reader too
  must have headlines within a quarter more than the slowest reader with that way
  alone, plus the same head start. For a lie we may take no more time than for its
  teller's silence. One of the lies is a second history, signed with the channel's
  keys under coercion: a new reader can't know which of two is the true one, is
  shown the one heard first, with an alarm, and the proof is kept.
- **Not yet** names a counter-measure that is still to be built. Such a row
  counts as failing, whatever came. Encrypted DNS, and a second
  resolver beside one that lies, have no row that waits for them, since other ways
  bring the news there (in ` + "`evil-resolver`" + ` DNS counts as closed: this world
  has one resolver, asked in the clear).
- What leaves no way open has no row. ` + "`offline`" + `: TestOffline (what was there stays readable, the program says within
  ten seconds that nobody has answered so far, and within two minutes that nobody does; a stick brings the rest). ` + "`seizure`" + `: TestSeizure in cmd.
- ` + "`prober`" + ` has a table of its own: what it asks a relay over HTTP/1.1, 2 and 3, TLS, QUIC and
  UDP, well-formed and not, and where the answers differ from those of a plain server of the same
  website and certificate, the built-in one, served by the same libraries; then the same of relays that are built as one would at first. It is written by
  ` + "`go test ./internal/censorlab -run Apart -args -apart`" + `. TestProber in mirror/relay
  asks more, with other websites and settings, and TestProberHeld what takes minutes, beside a website with
  a relay's timeouts. No differences does **not** mean that a relay before another's server looks like that server:
  before nginx every answer has its fields in another order, and malformed ones get Go's answers. What
  that shows is a proxy written in Go ([threats.md](threats.md)).
- The last columns are *models* of what people use today, not the programs
  themselves: a small program of the lab plays their round trips, packets and
  bytes against the same censor, for news of the same size, in their best case,
  and tries again as they do, for an hour at most. Given is the time to headlines.
  - *Mirror site*: one HTTPS mirror in a browser, its name looked up at the ISP's
    resolver (three questions of two seconds). What fails is loaded again after 1,
    5 and 30 seconds, 1, 5, 10 and 30 minutes, as Chromium does; what stands still
    for half a minute at once, over another connection.
  - *IPNS over IPFS*: a node that walks the DHT (a bootstrap node and three hops,
    twice; QUIC first, TCP a quarter of a second later; each hop up to five times)
    and fetches from one provider.
  - *DNS tunnel*: 130 bytes up and 900 down a query, or where that does not pass 30
    and 225, in letters; 32 queries in flight, each repeated every second for five
    minutes; answers that were tampered with are not taken.

  Where nothing but DNS is open the tunnel, in its best case, has headlines sooner
  than we do: we let quieter ways go first for 3 round trips, and look things up by
  names that any resolver may answer from its cache.

  None of them notices an old page by itself, nor do readers of a mirror site or
  through a tunnel notice what its keeper has forged.

Each world runs in a process of its own on one processor, since it is the order
of goroutines that makes a run differ from the next: what is not left to chance
then comes out the same, whatever else the machine does. Where packets are lost
the medians differ a little. CI plays every scenario and every pair, and compares each
row with this table:

    go test ./internal/censorlab -run Scorecard -args -pairs -compare

which fails when a row gets worse by more than 10 %: in time (and 0.1 round trips)
or in bytes up or down (and 8 kB), if more of them come twice than may, if a reader
ends without the news who got it before, or a row that was ok is not. Where chance
decides what readers meet, it is 10 % more than the median of another draw may be
(999 of 1,000 draws stay below that), and one reader in nine may have bad luck. What
looks worse is run again with three times as many readers, twenty where packets are
lost, before it counts, unless somebody was left without the news and it was no
chance.
`
