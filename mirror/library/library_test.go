package library

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// cheap makes argon2id fast enough for many tests; TestDefaultCost pins the real one.
var cheap = kdfCost{passes: 1, lanes: 1, memory: 64}

var chA, chB = channel.IDOf([]byte("a")), channel.IDOf([]byte("b"))

func open(t testing.TB, dir, passphrase string) *Library {
	t.Helper()
	l, err := Open(t.Context(), dir, Options{Passphrase: []byte(passphrase), cost: cheap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func rawCID(data []byte) cid.Cid {
	mh, err := multihash.Sum(data, multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

func block(n int, seed string) transport.Block {
	data := bytes.Repeat([]byte(seed), n/len(seed)+1)[:n]
	return transport.Block{CID: rawCID(data), Data: data}
}

// checked are blocks as PutBlocks takes them.
func checked(t testing.TB, blocks ...transport.Block) (out []bundle.Checked) {
	t.Helper()
	for _, b := range blocks {
		c, err := bundle.Check(b.CID, b.Data)
		check(t, err)
		out = append(out, c)
	}
	return out
}

func entry(id, title, lead string) bundle.Entry {
	return bundle.Entry{ID: id, Title: title, Lead: lead, Lang: "en", Dir: "ltr", Date: time.Unix(1_700_000_000, 0).UTC()}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("an error of several lines: %q", err)
	}
}

// copyOpen copies the files of an open library, as kill -9 would leave them.
func copyOpen(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	files, err := os.ReadDir(dir)
	check(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(to, f.Name()), b, 0o600))
	}
	return to
}

func TestEverythingAcknowledgedSurvivesAKill(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := open(t, dir, "pass")
	blocks := []transport.Block{block(65_717, "one"), block(12, "two")}
	check(t, l.SetState(ctx, chA, []byte("state 1")))
	check(t, l.SetState(ctx, chA, []byte("state 2")))
	check(t, l.PutBlocks(ctx, chA, 7, checked(t, blocks...)))
	check(t, l.SetNote(ctx, "k", []byte("v")))
	e := entry("00", "Bread is dearer", "Again.")
	e.Edition = 7
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Name: "Radio", Langs: []string{"en"}, Edition: 7, Date: e.Date, Articles: []bundle.Entry{e}}))
	check(t, l.IndexText(ctx, chA, "00", "The price of flour rose."))
	check(t, l.SetRead(ctx, chA, "00", true))

	l = open(t, copyOpen(t, dir), "pass")
	state, err := l.State(ctx, chA)
	check(t, err)
	if string(state) != "state 2" {
		t.Errorf("state %q", state)
	}
	for _, b := range blocks {
		got, err := l.Block(ctx, b.CID)
		check(t, err)
		if !bytes.Equal(got, b.Data) {
			t.Error("a block changed")
		}
	}
	if v, err := l.Note(ctx, "k"); err != nil || string(v) != "v" {
		t.Errorf("note %q, %v", v, err)
	}
	got := titles(t, l, Query{Search: "flour"})
	if len(got) != 1 || got[0] != "Bread is dearer" {
		t.Errorf("search finds %q", got)
	}
	h, err := l.Headline(ctx, chA, "00")
	check(t, err)
	if !h.Read || !h.Text || h.Edition != 7 || h.Channel != chA || !h.Date.Equal(e.Date) {
		t.Errorf("headline %+v", h)
	}
	m, err := l.Meta(ctx, chA)
	check(t, err)
	if m.Name != "Radio" || len(m.Langs) != 1 || m.Edition != 7 || m.Headlines != 1 || m.Unread != 0 || !m.Date.Equal(e.Date) {
		t.Errorf("meta %+v", m)
	}
}

func TestAHalfWrittenTransactionIsNone(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := open(t, dir, "")
	good := block(100, "good")
	if err := l.PutBlocks(ctx, chA, 1, append(checked(t, good), bundle.Checked{})); err == nil {
		t.Fatal("a block that nobody has checked was stored")
	}
	has, err := l.Has(ctx, good.CID)
	check(t, err)
	if has[0] {
		t.Error("part of a batch was stored")
	}

	// Cut the log within its last commit: that one is lost, the earlier one isn't.
	check(t, l.SetNote(ctx, "a", []byte("1")))
	check(t, l.SetNote(ctx, "b", bytes.Repeat([]byte("2"), 20_000)))
	torn := copyOpen(t, dir)
	wal := filepath.Join(torn, dataName+"-wal")
	fi, err := os.Stat(wal)
	check(t, err)
	check(t, os.Truncate(wal, fi.Size()-9_000))
	l = open(t, torn, "")
	if v, err := l.Note(ctx, "a"); err != nil || string(v) != "1" {
		t.Errorf("note a: %q, %v", v, err)
	}
	_, err = l.Note(ctx, "b")
	wantErr(t, err, transport.ErrNotFound)
}

func TestNothingInTheClear(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	words := []string{"Quetzalcoatlus", "Перестраховщица", "خویشتن‌داری", "繁花似锦", "Wünschelrute", "zaubertrank", "neverland"}
	l := open(t, dir, words[6])
	check(t, l.SetState(ctx, chA, []byte(words[0])))
	check(t, l.SetNote(ctx, words[5], []byte(words[4])))
	b := block(5000, words[5])
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, b)))
	e := entry("0123456789abcdef", words[0]+" "+words[1], words[2]+" "+words[3])
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Name: words[4], Articles: []bundle.Entry{e}}))
	check(t, l.IndexText(ctx, chA, e.ID, strings.Join(words, " ")))
	// A spilling sort or a big transaction must not leave plain temporary files.
	var many []bundle.Entry
	for i := range 500 {
		many = append(many, entry(fmt.Sprintf("%016x", i), words[i%len(words)], words[0]))
	}
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Articles: many}))
	look := append(words, chA.String(), string(chA[:]), "0123456789abcdef", "headline", "CREATE TABLE", "SQLite format", string(b.CID.Bytes()[4:]), string(l.key), fmt.Sprintf("%x", l.key))
	for _, state := range []string{"open", "closed"} {
		if state == "closed" {
			check(t, l.Close())
		}
		seen := 0
		check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			seen += len(raw)
			lower := bytes.ToLower(raw) // besides raw: it changes bytes that are no UTF-8
			for _, w := range look {
				for _, form := range spellings(w) {
					if len(form) > 3 && (bytes.Contains(raw, form) || bytes.Contains(lower, bytes.ToLower(form))) || strings.Contains(path[len(dir):], w) {
						t.Errorf("%s: %s holds %q in the clear", state, d.Name(), w)
					}
				}
			}
			return err
		}))
		if seen < 100_000 {
			t.Fatalf("%s: only %d bytes were looked through", state, seen)
		}
	}
}

func spellings(w string) [][]byte {
	var le, be []byte
	for _, u := range utf16.Encode([]rune(w)) {
		le, be = append(le, byte(u), byte(u>>8)), append(be, byte(u>>8), byte(u))
	}
	return [][]byte{[]byte(w), []byte(foldedFirst(w)), le, be}
}

func foldedFirst(w string) string {
	if ws := foldWords(w); len(ws) > 0 {
		return string(ws[0].runes)
	}
	return w
}

func TestPassphrase(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := open(t, dir, "old")
	check(t, l.SetNote(ctx, "k", []byte("v")))
	check(t, l.ChangePassphrase([]byte("new")))
	check(t, l.Close())
	for _, wrong := range []string{"old", "", "new "} {
		_, err := Open(ctx, dir, Options{Passphrase: []byte(wrong)})
		wantErr(t, err, ErrPassphrase)
		if errors.Is(err, ErrDamaged) {
			t.Error("a wrong passphrase is taken for damage")
		}
	}
	l = open(t, dir, "new")
	if v, err := l.Note(ctx, "k"); err != nil || string(v) != "v" {
		t.Errorf("note %q, %v", v, err)
	}
	if stray, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(stray) > 0 {
		t.Errorf("left behind: %q", stray)
	}
}

func TestDefaultCost(t *testing.T) {
	if defaultCost.memory < 64<<10 || defaultCost.passes < 3 {
		t.Fatalf("argon2id with %+v is weaker than promised", defaultCost)
	}
	dir := t.TempDir()
	l, err := Open(t.Context(), dir, Options{})
	check(t, err)
	check(t, l.Close())
	s, err := os.ReadFile(filepath.Join(dir, slotName))
	check(t, err)
	if s[1] != defaultCost.passes || !bytes.Equal(s[4:8], []byte{0, 1, 0, 0}) {
		t.Errorf("slot header % x", s[:8])
	}
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, "")
	_, err := Open(t.Context(), dir, Options{})
	wantErr(t, err, ErrInUse)
	check(t, l.Close())
	open(t, dir, "")
}

func TestDamagedSlot(t *testing.T) {
	dir := t.TempDir()
	check(t, open(t, dir, "").Close())
	path := filepath.Join(dir, slotName)
	whole, err := os.ReadFile(path)
	check(t, err)
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x40
		check(t, os.WriteFile(path, bad, 0o600))
		_, err := Open(t.Context(), dir, Options{})
		wantErr(t, err, ErrDamaged)
	}
	for _, bad := range [][]byte{{}, whole[:100], append(bytes.Clone(whole), 0)} {
		check(t, os.WriteFile(path, bad, 0o600))
		_, err := Open(t.Context(), dir, Options{})
		wantErr(t, err, ErrDamaged)
	}
	// A well-formed slot of a later version, and one that asks for a terabyte.
	for i, v := range map[int]byte{0: 2, 4: 0x40} {
		bad := bytes.Clone(whole)
		bad[i] = v
		sum := sha256.Sum256(bad[:sumAt])
		copy(bad[sumAt:], sum[:])
		check(t, os.WriteFile(path, bad, 0o600))
		if _, err := Open(t.Context(), dir, Options{}); err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("byte %d = %#x: %v", i, v, err)
		}
	}
	check(t, os.WriteFile(path, whole, 0o600))
	open(t, dir, "")
}

func TestTornDatabase(t *testing.T) {
	ctx := t.Context()
	for name, tear := range map[string]func(path string, size int64) error{
		"missing":     func(p string, _ int64) error { return os.Remove(p) },
		"empty":       func(p string, _ int64) error { return os.Truncate(p, 0) },
		"one page":    func(p string, _ int64) error { return os.Truncate(p, 4096) },
		"cut in half": func(p string, n int64) error { return os.Truncate(p, n/2) },
		"odd size":    func(p string, n int64) error { return os.Truncate(p, n-1000) },
		"first page":  func(p string, _ int64) error { return flip(p, 50) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, "")
			for i := range 20 {
				check(t, l.PutBlocks(ctx, chA, 1, checked(t, block(30_000, fmt.Sprint("b", i)))))
			}
			check(t, l.Close())
			path := filepath.Join(dir, dataName)
			fi, err := os.Stat(path)
			check(t, err)
			check(t, tear(path, fi.Size()))
			l, err = Open(ctx, dir, Options{})
			if err == nil {
				// SQLite may see it only when it comes to the lost pages.
				defer l.Close()
				for _, err = range l.EditionBlocks(ctx, chA, 1) {
				}
				if err == nil {
					_, err = l.db.Exec(`SELECT sum(length(data)) FROM block; PRAGMA integrity_check`)
				}
			}
			wantErr(t, err, ErrDamaged)
		})
	}
}

func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}

func TestSealedState(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	_, err := l.State(ctx, chA)
	wantErr(t, err, transport.ErrNotFound)
	check(t, l.SetState(ctx, chA, []byte("of a")))
	check(t, l.SetState(ctx, chB, nil))
	if s, err := l.State(ctx, chB); err != nil || len(s) != 0 {
		t.Errorf("an empty state became %q, %v", s, err)
	}
	_, err = l.db.Exec(`UPDATE channel SET state = (SELECT state FROM channel WHERE id = ?) WHERE id = ?`, chA[:], chB[:])
	check(t, err)
	_, err = l.State(ctx, chB)
	wantErr(t, err, ErrDamaged)
	for _, bad := range [][]byte{{}, make([]byte, 100)} {
		_, err = l.db.Exec(`UPDATE channel SET state = ? WHERE id = ?`, bad, chA[:])
		check(t, err)
		_, err = l.State(ctx, chA)
		wantErr(t, err, ErrDamaged)
	}
	if err := l.SetState(ctx, chA, make([]byte, MaxState+1)); err == nil {
		t.Error("a state without bounds")
	}
}

func TestWipe(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "odd [name]")
	l := open(t, dir, "pass")
	check(t, l.SetNote(ctx, "k", []byte("v")))
	check(t, l.Close())
	key, err := os.Open(filepath.Join(dir, slotName)) // as an undelete would see it
	check(t, err)
	defer key.Close()
	before, err := os.ReadFile(filepath.Join(dir, slotName))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, ".tmp-123"), before, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600))
	if !Exists(dir) {
		t.Error("does not exist")
	}
	check(t, Wipe(dir))
	after := make([]byte, slotSize)
	_, err = key.ReadAt(after, 0)
	check(t, err)
	for i := range after[:len(after)-8] {
		if bytes.Equal(after[i:i+8], before[i:i+8]) {
			t.Fatalf("the key slot was not overwritten at %d", i)
		}
	}
	files, err := os.ReadDir(dir)
	check(t, err)
	if len(files) != 1 || files[0].Name() != "mine" || Exists(dir) {
		t.Errorf("left behind: %v", files)
	}
	check(t, Wipe(dir))
	check(t, Wipe(filepath.Join(dir, "nowhere")))

	l = open(t, dir, "other")
	_, err = l.Note(ctx, "k")
	wantErr(t, err, transport.ErrNotFound)
}

func TestHalfMadeLibraryIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	check(t, open(t, dir, "").Close())
	check(t, os.Remove(filepath.Join(dir, slotName))) // killed before the slot was in place
	if Exists(dir) {
		t.Error("exists")
	}
	open(t, dir, "")
}

func TestDiskFull(t *testing.T) {
	ctx := t.Context()
	l := open(t, t.TempDir(), "")
	_, err := l.db.Exec(`PRAGMA max_page_count = 60`)
	check(t, err)
	big := block(60_000, "big")
	for i := 0; err == nil && i < 10; i++ {
		err = l.PutBlocks(ctx, chA, 1, checked(t, block(60_000, fmt.Sprint(i))))
	}
	wantErr(t, err, ErrFull)
	_, err = l.db.Exec(`PRAGMA max_page_count = 100000`)
	check(t, err)
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, big)))
}

func TestReadOnlyFolder(t *testing.T) {
	// A file where the folder should be fails for root too.
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, nil, 0o600))
	if _, err := Open(t.Context(), filepath.Join(path, "lib"), Options{}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if os.Geteuid() == 0 {
		t.Log("root may write anywhere: the permission itself is not tested here")
		return
	}
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o500))
	_, err := Open(t.Context(), dir, Options{})
	wantErr(t, err, ErrReadOnly)
}
