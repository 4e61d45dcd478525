package bundle_test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
)

// invalid is one entry of invalid.json: a file that must be refused.
type invalid struct {
	File string `json:"file"`
	// As is what it is taken for: head, root-note, grant, invite, denied, car,
	// edition, opened, front, dict, text, picture, block, folder, directory, file, record.
	As string `json:"as"`
	// After are root notes: those that come before it in the chain (root-note), or all
	// that it is checked with, if not the channel's first alone (head).
	After []string `json:"after,omitempty"`
	// CID is the one the bytes come under (block, folder, directory, file).
	CID string `json:"cid,omitempty"`
	// Edition is the one that a front page or a dictionary is opened as.
	Edition uint64 `json:"edition,omitempty"`
	// Headline leads to a text or a picture of edition 0.
	Headline json.RawMessage `json:"headline,omitempty"`
	// Dict is the dict.age of that edition, if it has one.
	Dict string `json:"dict,omitempty"`
	// Check says in words which check of FORMAT.md refuses it.
	Check string `json:"check"`
	// Error is what this implementation's error says, in part.
	Error string `json:"error,omitempty"`
}

// refuse parses one invalid file and returns the refusal, nil if there is none.
func refuse(t testing.TB, v *vectors, roots *channel.Roots, id channel.ID, c invalid) error {
	t.Helper()
	b := readVector(t, c.File)
	var name cid.Cid
	if c.CID != "" {
		var err error
		if name, err = cid.Decode(c.CID); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	switch c.As {
	case "head":
		if len(c.After) > 0 {
			if roots, err = channel.ParseRoots(id, readVectors(t, c.After)); err != nil {
				t.Fatal(err)
			}
		}
		_, err = roots.Head(b)
	case "root-note":
		_, err = channel.ParseRoots(id, append(readVectors(t, c.After), b))
	case "grant":
		_, err = roots.OpenGrant(b, channel.Seed(hex32(v.Invite.Seed)))
	case "invite":
		_, err = channel.ParseInvite(string(b))
	case "car", "edition": // what makes a file whole, its receiver knows: see mirror/relay
		_, _, _, err = readCAR(b)
	case "opened":
		err = opened(roots, id, channel.EpochKey(hex32(v.Grant.Epochs[0])), readVector(t, v.Editions[0].HeadText), b)
	case "front":
		_, err = bundle.OpenFront(channel.EpochKey(hex32(v.Grant.Epochs[0])), id, c.Edition, b)
	case "dict":
		_, err = bundle.OpenDictionary(channel.EpochKey(hex32(v.Grant.Epochs[0])), id, c.Edition, b)
	case "denied":
		_, err = roots.Denied(b)
	case "text", "picture":
		var e bundle.Entry
		if err := json.Unmarshal(c.Headline, &e); err != nil {
			t.Fatal(err)
		}
		key := channel.EpochKey(hex32(v.Grant.Epochs[0]))
		if c.As == "text" {
			_, err = textLayer(t, id, key, b, c.Dict).Article(&e)
		} else {
			_, err = oneLayer(id, key, bundle.LayerMedia, b).Image(&e, 0)
		}
	case "block":
		err = bundle.CheckBlock(name, b)
	case "folder":
		_, err = bundle.ParseFolder(name, b)
	case "directory":
		_, err = bundle.ParseDirectory(name, b)
	case "file":
		_, err = bundle.ParseFile(name, b, 0)
	case "record":
		_, err = record.Parse(b)
	default:
		t.Fatalf("unknown kind %q", c.As)
	}
	return err
}

func TestVectorsRefused(t *testing.T) {
	v, roots, id := loadVectors(t)
	var cases []invalid
	readJSON(t, "invalid.json", &cases)
	if len(cases) < 200 {
		t.Fatalf("%d invalid vectors", len(cases))
	}
	listed := map[string]bool{}
	for _, c := range cases {
		if listed[c.File] {
			t.Errorf("%s is listed twice", c.File)
		}
		listed[c.File] = true
		if c.As == "edition" {
			continue // what makes a file whole, its receiver knows: see mirror/relay
		}
		t.Run(strings.TrimSuffix(path.Base(c.File), path.Ext(c.File)), func(t *testing.T) {
			err := refuse(t, v, roots, id, c)
			if err == nil {
				t.Fatalf("accepted; %s", c.Check)
			}
			if !strings.Contains(err.Error(), c.Error) {
				t.Errorf("refused by another check: %v\nexpected %q (%s)", err, c.Error, c.Check)
			}
		})
	}
	allListed(t, "invalid", listed)
}

// allListed checks that a folder of vectors holds what its list names, and nothing else.
func allListed(t *testing.T, dir string, listed map[string]bool) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(vectorDir, dir))
	if err != nil || len(entries) != len(listed) {
		t.Errorf("%d files of %d: %v", len(entries), len(listed), err)
	}
	for _, e := range entries {
		if !listed[dir+"/"+e.Name()] {
			t.Errorf("%s/%s is not in %s.json", dir, e.Name(), dir)
		}
	}
}

// TestVectorsRoom: what later writers may add is ignored, not refused (FORMAT.md,
// section 18).
func TestVectorsRoom(t *testing.T) {
	v, roots, id := loadVectors(t)
	var cases []invalid
	readJSON(t, "room.json", &cases)
	if len(cases) < 8 {
		t.Fatalf("%d files with something added", len(cases))
	}
	listed := map[string]bool{}
	for _, c := range cases {
		listed[c.File] = true
		if err := refuse(t, v, roots, id, c); err != nil {
			t.Errorf("%s: %v; %s", c.File, err, c.Check)
		}
	}
	allListed(t, "room", listed)
}
