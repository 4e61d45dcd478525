package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/mirror/reader"
)

// Twenty days of a channel, 40 texts and 10 photos each, beside what else packs the
// same files, in one run: tar and zstd -19, with age behind them, a day at a time;
// restic and borg, at their strongest, all days in one go, which is best for them. What
// is compared is printed at the end; nothing is judged.
//
//	go test -tags nodynamic ./mirror/publisher -run xxx -bench DaysBeside -benchtime 1x -v -timeout 20m
//
// The channel packs twice: without a dictionary, and with one trained after
// trainedAfter days. Epochs, which end when chance wills, end on the same days in both:
// after epochDays, the mean.
const (
	trainedAfter = 5
	epochDays    = int((leastEpoch + meanEpoch) / (24 * time.Hour))
)

// trial is one way to pack, and what it came to on each day.
type trial struct {
	name  string
	bytes []int64
	took  []time.Duration
}

func (d *trial) add(n int64, took time.Duration) {
	d.bytes, d.took = append(d.bytes, n), append(d.took, took)
}

func BenchmarkDaysBeside(b *testing.B) {
	for command, pkg := range map[string]string{"tar": "tar", "zstd": "zstd", "age": "age", "restic": "restic", "borg": "borgbackup"} {
		testservers.Need(b, command, pkg)
	}
	corpus := readCorpus(b)
	for b.Loop() {
		compareDays(b, corpus)
	}
	b.ReportMetric(0, "ns/op") // of all together: it says nothing
}

func compareDays(b *testing.B, corpus [][]bundle.Article) {
	dir := b.TempDir()
	folders := make([]string, len(corpus))
	for d, articles := range corpus {
		folders[d] = filepath.Join(dir, fmt.Sprintf("day%02d", d))
		writeDay(b, folders[d], articles)
	}
	tar := &trial{name: "tar | zstd -19, neither encrypted nor padded"}
	plain, dict := &trial{name: "editions without dictionary"}, &trial{name: fmt.Sprintf("editions, dictionary trained after %d", trainedAfter)}
	recipient := keygen(b, dir)
	resticRepo, borgRepo := newRestic(b, dir), newBorg(b, dir)
	p, q := newTrialChannel(b, dir, "plain"), newTrialChannel(b, dir, "dict")
	for d := range corpus {
		if d == trainedAfter {
			t, err := q.p.TrainDictionary()
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("dictionary: %d bytes from %d articles, dict.age %d bytes; newest %d articles: %d bytes without, %d with (%.0f %% less)",
				t.Size, t.Articles, t.File, t.Tested, t.Before, t.After, 100-100*float64(t.After)/float64(t.Before))
		}
		tar.add(piped(b, `tar -C "$0" -cf - . | zstd -q -19 -c | tee "$1" | age -r "$2" >"$1.age"`, folders[d], filepath.Join(dir, "out"), recipient))
		plain.add(p.pack(b, d, corpus[d]))
		dict.add(q.pack(b, d, corpus[d]))
	}
	base := mean(tar.bytes)
	b.Logf("%-44s %10s %8s %12s", "mean of a day", "bytes", "", "median time")
	for _, t := range []*trial{tar, plain, dict} {
		b.Logf("%-44s %10.0f %8.4f %9.0f ms", t.name, mean(t.bytes), mean(t.bytes)/base, ms(middle(t.took)))
	}
	b.Log("(the time of the first is that of tar | zstd -19 | age)")
	for _, r := range []*repo{resticRepo, borgRepo} {
		n := r.backup(b, folders) / int64(len(folders))
		b.Logf("%-44s %10d %8.4f; editions without dictionary %.4f of it, with %.4f", strings.Join(r.args, " "), n, float64(n)/base, mean(plain.bytes)/float64(n), mean(dict.bytes)/float64(n))
	}
	after := func(t *trial) float64 { return mean(t.bytes[trainedAfter:]) }
	b.Logf("days from %d on: without %.4f, with %.4f of tar and zstd", trainedAfter, after(plain)/after(tar), after(dict)/after(tar))
	b.Logf("their texts alone, compressed: without %.0f bytes, with %.0f", p.texts(b, trainedAfter), q.texts(b, trainedAfter))
	b.Log("an edition's file, by cause, means: without dictionary")
	p.parts(b)
	b.Log("the same with dictionary")
	q.parts(b)
}

func mean(ns []int64) float64 {
	sum := int64(0)
	for _, n := range ns {
		sum += n
	}
	return float64(sum) / float64(len(ns))
}

func middle(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// writeDay writes what an edition says of a day's articles as files: a JSON file and
// its pictures an article.
func writeDay(b *testing.B, dir string, articles []bundle.Article) {
	b.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	for _, a := range articles {
		var images []map[string]any
		for i, img := range a.Images {
			name := fmt.Sprintf("%s-%d.webp", a.ID, i)
			images = append(images, map[string]any{"name": name, "type": img.Type, "alt": img.Alt, "w": img.Width, "h": img.Height})
			if err := os.WriteFile(filepath.Join(dir, name), img.Data, 0o600); err != nil {
				b.Fatal(err)
			}
		}
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		err := e.Encode(map[string]any{
			"id": a.ID, "title": a.Title, "lead": a.Lead, "body": a.Body, "lang": a.Lang, "dir": a.Dir, "date": a.Date, "source": a.Source, "images": images,
		})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, a.ID+".json"), out.Bytes(), 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// piped runs a line of shell that writes to the file $1.
func piped(b *testing.B, script string, args ...string) (int64, time.Duration) {
	b.Helper()
	start := time.Now()
	if out, err := exec.Command("sh", append([]string{"-euc", script}, args...)...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", script, err, out)
	}
	took := time.Since(start)
	info, err := os.Stat(args[1])
	if err != nil {
		b.Fatal(err)
	}
	return info.Size(), took
}

// keygen makes a key of age's and returns its recipient.
func keygen(b *testing.B, dir string) string {
	b.Helper()
	id, err := age.GenerateX25519Identity()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "key"), []byte(id.String()+"\n"), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	return id.Recipient().String()
}

// repo is what a backup program keeps.
type repo struct {
	dir  string
	env  []string
	args []string
}

func newRestic(b *testing.B, dir string) *repo {
	b.Helper()
	r := &repo{dir: filepath.Join(dir, "restic")}
	r.env = []string{"RESTIC_REPOSITORY=" + r.dir, "RESTIC_PASSWORD=password", "RESTIC_CACHE_DIR=" + filepath.Join(dir, "cache")}
	r.args = []string{"restic", "backup", "-q", "--compression", "max"}
	r.run(b, "restic", "init", "-q")
	return r
}

func newBorg(b *testing.B, dir string) *repo {
	b.Helper()
	r := &repo{dir: filepath.Join(dir, "borg")}
	r.env = []string{"BORG_REPO=" + r.dir, "BORG_PASSPHRASE=password", "BORG_BASE_DIR=" + dir}
	r.args = []string{"borg", "create", "-C", "zstd,19", "::days"}
	r.run(b, "borg", "init", "-e", "repokey-blake2")
	return r
}

func (r *repo) run(b *testing.B, command ...string) {
	b.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), r.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// backup stores the folders and returns how many bytes that took.
func (r *repo) backup(b *testing.B, folders []string) (size int64) {
	b.Helper()
	r.run(b, append(r.args, folders...)...)
	err := filepath.WalkDir(r.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}

// trialChannel is a publisher's folder, and which blocks its editions have brought.
type trialChannel struct {
	p    *Publisher
	seen map[cid.Cid]bool
}

func newTrialChannel(b *testing.B, dir, name string) *trialChannel {
	b.Helper()
	p, err := Init(filepath.Join(dir, name), "Radio Example", []string{"en"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	return &trialChannel{p: p, seen: map[cid.Cid]bool{}}
}

// pack makes a day's edition. It costs the head, and the blocks that no edition
// before it had: that is what readers fetch.
func (c *trialChannel) pack(b *testing.B, day int, articles []bundle.Article) (int64, time.Duration) {
	b.Helper()
	start := time.Now()
	made, err := c.p.Pack(articles, dayOf(day))
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	c.p.keys.Renew = dayOf(day - day%epochDays + epochDays)
	if made.Editions != 1 {
		b.Fatalf("%d editions of one day", made.Editions)
	}
	size := int64(0)
	c.each(b, made.Edition, func(blk car.Block) {
		if !c.seen[blk.CID] {
			c.seen[blk.CID] = true
			size += int64(len(blk.Data))
		}
	})
	return size, took
}

// each reads an edition's file, head included.
func (c *trialChannel) each(b *testing.B, n uint64, f func(car.Block)) {
	b.Helper()
	file, _, err := c.p.Source(n)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	r, err := car.NewReader(file)
	if err != nil {
		b.Fatal(err)
	}
	for {
		blk, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
		f(blk)
	}
}

// parts prints what an edition's file is made of, by cause: means of all days.
func (c *trialChannel) parts(b *testing.B) {
	b.Helper()
	sum, order := map[string]int64{}, []string{}
	add := func(cause string, n int64) {
		if _, ok := sum[cause]; !ok {
			order = append(order, cause)
		}
		sum[cause] += n
	}
	for n := range c.p.Size() {
		vol, err := c.p.volume(n)
		if err != nil {
			b.Fatal(err)
		}
		for _, layer := range []string{bundle.LayerMedia, bundle.LayerText, bundle.LayerFront, bundle.LayerDict} {
			content, padding, sealing := c.layer(b, vol, layer)
			add(layer+", compressed", content)
			add("padding of "+layer, padding)
			add("age: headers, nonces, tags", sealing)
		}
		err = vol.Walk(func(w bundle.Want, data []byte) error {
			switch {
			case w.Layer == bundle.LayerLog || w.Layer == bundle.LayerGrants || w.Layer == bundle.LayerRoot:
				add(w.Layer, int64(len(data)))
			case w.Node:
				add("UnixFS: folder and nodes", int64(len(data)))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		head, held := int64(0), int64(0)
		c.each(b, n, func(blk car.Block) {
			if held += int64(len(blk.Data)); bytes.HasPrefix(blk.Data, []byte("c2sp.org/tlog-proof")) {
				head = int64(len(blk.Data))
			}
		})
		info, err := os.Stat(c.p.carName(n))
		if err != nil {
			b.Fatal(err)
		}
		add("head", head)
		add("CAR: header, lengths, CIDs", info.Size()-held)
		add("the file", info.Size())
	}
	for _, cause := range order {
		b.Logf("  %-30s %9.0f", cause, float64(sum[cause])/float64(c.p.Size()))
	}
}

// texts is the mean of the texts of editions from one on, compressed.
func (c *trialChannel) texts(b *testing.B, from uint64) float64 {
	b.Helper()
	sum := int64(0)
	for n := from; n < c.p.Size(); n++ {
		vol, err := c.p.volume(n)
		if err != nil {
			b.Fatal(err)
		}
		content, _, _ := c.layer(b, vol, bundle.LayerText)
		sum += content
	}
	return float64(sum) / float64(c.p.Size()-from)
}

// layer takes a layer apart.
func (c *trialChannel) layer(b *testing.B, vol *bundle.Volume, layer string) (content, padding, sealing int64) {
	b.Helper()
	var file bytes.Buffer
	if ok, err := vol.Copy(&file, layer); err != nil {
		b.Fatal(err)
	} else if !ok {
		return 0, 0, 0
	}
	size, made := int64(file.Len()), vol.Edition
	if layer == bundle.LayerDict {
		made = vol.Dict.Edition
	}
	id, err := age.NewScryptIdentity(bundle.Passphrase(vol.Key, vol.Channel, made, layer))
	if err != nil {
		b.Fatal(err)
	}
	r, err := age.Decrypt(&file, id)
	if err != nil {
		b.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	content = int64(len(plain))
	if at := bytes.LastIndex(plain, []byte("\x50\x2a\x4d\x18")); at >= 0 && len(bytes.Trim(plain[at+8:], "\x00")) == 0 {
		content = int64(at)
	}
	return content, int64(len(plain)) - content, size - int64(len(plain))
}

// Opening: the front page of an edition from the library and from a CAR file, on
// disk, and all its texts beside age and zstd with the same bytes.
//
//	go test -tags nodynamic ./mirror/publisher -run xxx -bench OpenBeside -benchtime 20x -v
func BenchmarkOpenBeside(b *testing.B) {
	for command, pkg := range map[string]string{"zstd": "zstd", "age": "age"} {
		testservers.Need(b, command, pkg)
	}
	corpus := readCorpus(b)
	dir := b.TempDir()
	for _, with := range []bool{false, true} {
		c := newTrialChannel(b, dir, fmt.Sprint("channel", with))
		for d := range trainedAfter + 1 {
			if with && d == trainedAfter {
				if _, err := c.p.TrainDictionary(); err != nil {
					b.Fatal(err)
				}
			}
			c.pack(b, d, corpus[d])
		}
		n := uint64(trainedAfter)
		if (c.p.Front().Dict != nil) != with {
			b.Fatal("the dictionary is not used")
		}
		name := "without dictionary"
		if with {
			name = "with dictionary"
		}
		b.Run(name, func(b *testing.B) { c.opening(b, n, len(corpus[n])) })
	}
}

func (c *trialChannel) opening(b *testing.B, n uint64, texts int) {
	dir := b.TempDir()
	script := c.stock(b, dir, n)
	car := filepath.Join(dir, "edition.car")
	if err := c.p.Export(b.Context(), car); err != nil {
		b.Fatal(err)
	}
	invite, err := c.p.Invite("readers")
	if err != nil {
		b.Fatal(err)
	}
	r, err := reader.Open(b.Context(), reader.Config{Dir: filepath.Join(dir, "library"), Network: &netreal.Network{}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ch, _, err := r.Add(b.Context(), invite.String())
	if err == nil {
		err = r.Import(b.Context(), car, nil)
	}
	if err != nil {
		b.Fatal(err)
	}
	var fromLibrary, fromFile, ours, theirs, fromCAR []time.Duration
	timed := func(to *[]time.Duration, f func() error) {
		start := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		*to = append(*to, time.Since(start))
	}
	for b.Loop() {
		timed(&fromLibrary, func() error {
			_, vols, err := r.Shelf().Editions(b.Context(), ch)
			if err == nil {
				_, err = vols[0].Front()
			}
			return err
		})
		timed(&fromFile, func() error {
			vol, err := c.p.volume(n)
			if err == nil {
				_, err = vol.Front()
			}
			return err
		})
		timed(&theirs, func() error { return exec.Command("sh", "-euc", script, dir).Run() })
		all := func(vol *bundle.Volume) error {
			f, err := vol.Front()
			if err != nil {
				return err
			}
			read := 0
			for i := range f.Articles {
				if e := &f.Articles[i]; e.Edition == n {
					if _, err := vol.Article(e); err != nil {
						return err
					}
					read++
				}
			}
			if read != texts {
				return fmt.Errorf("%d texts of %d", read, texts)
			}
			return nil
		}
		timed(&ours, func() error {
			_, vols, err := r.Shelf().Editions(b.Context(), ch)
			if err != nil {
				return err
			}
			return all(vols[0])
		})
		timed(&fromCAR, func() error {
			vol, err := c.p.volume(n)
			if err != nil {
				return err
			}
			return all(vol)
		})
	}
	for _, row := range []struct {
		name string
		took []time.Duration
	}{
		{"front page, from the library", fromLibrary},
		{"front page, from a CAR file, all blocks checked", fromFile},
		{fmt.Sprintf("%d texts: age -d | zstd -d, two processes", texts), theirs},
		{"the same from the library", ours},
		{"the same from a CAR file, all blocks checked", fromCAR},
	} {
		b.Logf("%-50s %7.2f ms  (%.2f to %.2f)", row.name, ms(middle(row.took)), ms(slices.Min(row.took)), ms(slices.Max(row.took)))
	}
	b.ReportMetric(0, "ns/op") // of all together: it says nothing
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// stock writes the frames of edition n's texts as an age file that needs no terminal
// to open, and returns the shell's line that opens it below folder $0.
func (c *trialChannel) stock(b *testing.B, dir string, n uint64) string {
	b.Helper()
	vol, err := c.p.volume(n)
	if err != nil {
		b.Fatal(err)
	}
	var file, sealed bytes.Buffer
	if _, err := vol.Copy(&file, bundle.LayerText); err != nil {
		b.Fatal(err)
	}
	id, err := age.NewScryptIdentity(bundle.Passphrase(vol.Key, vol.Channel, n, bundle.LayerText))
	if err != nil {
		b.Fatal(err)
	}
	r, err := age.Decrypt(&file, id)
	if err != nil {
		b.Fatal(err)
	}
	to, err := age.ParseX25519Recipient(keygen(b, dir))
	if err != nil {
		b.Fatal(err)
	}
	w, err := age.Encrypt(&sealed, to)
	if err == nil {
		_, err = io.Copy(w, r)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "text.age"), sealed.Bytes(), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	if vol.Dict == nil {
		return `age -d -i "$0/key" "$0/text.age" | zstd -qdc >"$0/text"`
	}
	if err := os.WriteFile(filepath.Join(dir, "dict"), dictBytes(b, c.p), 0o600); err != nil {
		b.Fatal(err)
	}
	return `age -d -i "$0/key" "$0/text.age" | zstd -qdc -D "$0/dict" >"$0/text"`
}

func dictBytes(b *testing.B, p *Publisher) []byte {
	b.Helper()
	d, _, err := p.dictionary()
	if err != nil || d == nil {
		b.Fatalf("no dictionary: %v", err)
	}
	return d.Bytes()
}
