package bundle_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"tamizdat/bundle"
)

// notices are short articles that have much in common, as a town's are.
func notices(from, n int, at int64) (out []bundle.Article) {
	for i := from; i < from+n; i++ {
		id := fmt.Sprintf("00112233446677%02x", i)
		a := sampleArticle(id, fmt.Sprintf("Bus line %d has another stop", i), "The timetable stays as it is.",
			fmt.Sprintf("<p>From Monday on, the bus of line %d also stops in %d Garden Street, between the market and the railway station.</p>", i, i*37%90+1),
			"en", "ltr", at-int64(i))
		if i%3 == 0 {
			a = sampleArticle(id, fmt.Sprintf("Автобус %d останавливается чаще", i), "Расписание не меняется.",
				fmt.Sprintf("<p>С понедельника автобус маршрута %d останавливается и у дома %d по Садовой улице, между рынком и вокзалом.</p>", i, i*41%90+1),
				"ru", "ltr", at-int64(i))
		}
		out = append(out, a)
	}
	return out
}

// dictionary makes one from articles like those of the last edition.
func (m *maker) dictionary() (err error) {
	m.dict, err = bundle.TrainDictionary(notices(100, 60, 1_790_000_000), 2500)
	if err == nil {
		m.write("dict.zstd", m.dict.Bytes())
	}
	return err
}

// sealDict encrypts what stands for the last edition's dictionary, with the right key.
func (m *maker) sealDict(edition uint64, plain []byte) []byte {
	return m.seal(bundle.Passphrase(m.epoch, m.id, edition, bundle.LayerDict), 1, plain)
}

func (m *maker) invalidDicts() error {
	const edition = 2
	good := m.dict.Bytes()
	if d, err := bundle.OpenDictionary(m.epoch, m.id, edition, m.sealDict(edition, padded(frame(good), 100, 0))); err != nil || d.ID() != m.dict.ID() {
		return fmt.Errorf("a dictionary written by hand: %w", err)
	}
	refused := func(name, check, errText string, b []byte) {
		m.refused(name, ".age", "dict", check, errText, b).Edition = edition
	}
	with := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return m.sealDict(edition, frame(b))
	}
	refused("dict-of-another-edition", "the passphrase is that of the edition it was made for", "wrong key", m.sealDict(edition-1, frame(good)))
	refused("dict-bomb", "a dictionary of at most 128 KiB", "oversized", m.sealDict(edition, frame(append(bytes.Clone(good), make([]byte, 1<<20)...))))
	refused("dict-two-frames", "a dictionary is one zstd frame and padding", "malformed padding", m.sealDict(edition, append(frame(good), frame(good)...)))
	refused("dict-not-compressed", "a dictionary is one zstd frame and padding", "not a zstd frame", m.sealDict(edition, good))
	refused("dict-raw-content", "it begins with the magic number", "not a zstd dictionary", m.sealDict(edition, frame(bytes.Repeat([]byte("bus "), 100))))
	refused("dict-empty", "it begins with the magic number", "not a zstd dictionary", m.sealDict(edition, frame(nil)))
	refused("dict-id-0", "IDs are 32,768 to 65,535", "ID out of range", with(4, 0))
	refused("dict-id-reserved", "IDs are 32,768 to 65,535", "ID out of range", with(4, 1234))
	refused("dict-id-large", "IDs are 32,768 to 65,535", "ID out of range", with(4, 70000))
	refused("dict-tables-cut", "its tables are whole", "malformed", m.sealDict(edition, frame(good[:20])))
	refused("dict-tables-malformed", "its tables are whole", "malformed", with(8, 0xffffffff))
	return nil
}
