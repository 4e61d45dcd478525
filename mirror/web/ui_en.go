package web

import (
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

var english = &catalogue{
	tag: "en", dir: "ltr", name: "English", lang: language.English, zero: '0',
	day: func(t time.Time) string { return t.Format("2 January 2006") },
	spans: map[string]map[plural.Form]string{
		"minute": {plural.One: "%s minute", plural.Other: "%s minutes"},
		"hour":   {plural.One: "%s hour", plural.Other: "%s hours"},
		"day":    {plural.One: "%s day", plural.Other: "%s days"},
		"month":  {plural.One: "%s month", plural.Other: "%s months"},
		"year":   {plural.One: "%s year", plural.Other: "%s years"},
	},
	weekdays: [7]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"},
	texts: map[string]string{
		"name": "Notes", "skip": "Skip to the text", "leave": "Leave", "home": "Front page", "status": "State", "menu": "Pages",
		"interface": "Language of this page", "all": "All", "languages": "Languages", "search": "Search", "search.do": "Find",
		"found": "Found", "unread": "Unread only", "unread.off": "Show all", "new": "new", "headline": "headline only so far",
		"ago": "%s ago", "now": "just now", "age": "Newest edition: %s old", "age.now": "Newest edition: just now",
		"clock":   "The clock of this device seems to be wrong. The news is shown anyway; ages may not be right.",
		"syncing": "Looking for news now …", "sync": "Look for news now", "next": "Older", "first": "Back to the newest",
		"lead": "Newest", "rest": "More", "pictures": "with pictures",
		"bytes": "bytes", "KB": "KB", "MB": "MB", "GB": "GB",

		"empty.nochannel": "Nothing to read yet", "empty.nochannel.text": "This library follows no channel. Somebody who gives you an invite gives you the news: add it with the command “mirror add”, then come back here.",
		"empty.waiting": "Nothing has arrived yet", "empty.waiting.text": "The channel is known, and its news is on the way or its paths are blocked at the moment. You need not do anything: it is tried again and again. What arrives stays here.",
		"empty.nothing": "Nothing found", "empty.nothing.text": "No headline or text on this device has these words, or nothing is left in this choice.", "empty.clear": "Show everything",

		"back": "Back to the list", "source": "Published at", "source.warn": "Opening this address goes to the open internet. Whoever watches your connection can see that you do.",
		"links": "Addresses mentioned in the text", "picture": "Picture", "picture.missing": "Picture not here yet",
		"pictures.missing": "Pictures of this article have not arrived.", "pictures.fetch": "Fetch the pictures", "pictures.asked": "The pictures are being fetched. Load this page again in a little while.", "pictures.failed": "The pictures did not come: no way that carries pictures is open at the moment, or your data limit is reached. Try again later.",
		"notext": "The text has not arrived yet", "notext.text": "So far only the headline is here. The text follows as soon as any path lets it through.",
		"mark.unread": "Mark as unread", "links.warn": "They are shown as text so that no touch opens them by mistake.",

		"status.title": "How things stand", "status.channels": "Channels", "status.paths": "Paths", "status.none": "No paths are known yet.",
		"status.last": "Last looked for news: %s", "status.never": "Has not looked for news since it was started.",
		"status.blocked": "No path works at the moment. What has arrived can still be read, and it is tried again by itself.",
		"status.one":     "One open path is enough: all of them bring the same, checked news.",
		"status.lied":    "One of the ways sent something false. That was recognised and thrown away: what you read here is checked. For a day it is asked only after all others; you need not do anything.",
		"status.older":   "One of the ways offered an older edition. It was not taken: what you have is newer. That happens when a way is late; you need not do anything.",
		"edition":        "Edition", "articles": "Articles", "unread.count": "Unread", "nothing.yet": "nothing has arrived yet", "of": "of",
		"path": "Path", "kind": "Kind", "state": "State", "last": "Last brought something", "brought": "Brought", "never": "not yet",
		"path.working": "working", "path.blocked": "blocked", "path.resting": "resting", "path.lied": "sent something false", "path.forked": "showed another history", "path.untried": "not tried yet",
		"kind.quic": "relay, QUIC", "kind.tcp": "relay, TCP", "kind.gateway": "gateway", "kind.ipfs": "IPFS", "kind.dns": "DNS", "kind.file": "file",

		"today":                   "%s today",
		"fresh.current":           "Checked %s in %s different ways. You have the newest news.",
		"fresh.nothing":           "Checked %s in %s different ways. Nothing newer.",
		"fresh.nothing.one":       "Checked %s, in one way only. Nothing newer.",
		"fresh.one":               "Checked %s. Only one source says that this is the newest. A second one would make it more certain.",
		"fresh.behind":            "Checked %s. There is newer news, but it has not come through yet. It is tried again by itself.",
		"fresh.unchecked":         "Last checked %s. There may be newer news.",
		"fresh.unasked":           "Nobody was asked yet whether there is newer news.",
		"fresh.unreached":         "Nobody could be reached since %s. What you see is from %s.",
		"fresh.unreached.ever":    "Nobody could be reached so far. What you see is from %s.",
		"fresh.unreached.nothing": "Nobody could be reached so far. It is tried again by itself.",
		"fresh.frozen":            "You may be kept from newer news. The newest that anybody shows you is from %s. Try another network, or ask a friend for a file.",
		"fresh.forked":            "Someone is showing different readers different news. Do not trust this channel until you have heard from its publisher in another way. Proof is kept; to write it to a file:",
		"fresh.proof":             "Give that file to the publisher, or to somebody who can make it known: anybody can check it with this program, without an invite. It names the channel, and nothing of your invite is in it.",
		"fresh.rekeyed":           "This channel's publisher has replaced a stolen key. What was signed with it and was not the publisher's was taken back from this device. Proof is kept; to write it to a file:",
		"fresh.first":             "This device has only one edition of this channel so far. From the next one on it shows whether older ones were changed.",
		"fresh.witnessed":         "Seen by %s of %s witnesses.",
		"fresh.unwitnessed":       "Seen by %s of %s witnesses, where this channel asks for %s: it is less certain that everyone is shown the same.",
		"fresh.file":              "From a file, %s. A file can’t tell whether there is newer news.",
		"fresh.clockoff":          "If that seems wrong, look at the date of this device: its clock may be ahead.",
		"fresh.title":             "How fresh this is", "fresh.sources": "Sources that agree", "fresh.checked": "Last answer", "fresh.signed": "Signed", "fresh.rhythm": "Usually something new after", "showed": "Newest it showed",

		"event.title": "What happened last", "event.start": "looking for news", "event.asked": "asked", "event.first": "answered first", "event.answered": "answered", "event.turned": "has something newer",
		"event.brought.head": "brings what is newest", "event.brought.headlines": "brings headlines", "event.brought.text": "brings texts", "event.brought.images": "brings pictures", "event.brought.rest": "brings the rest",
		"event.doubled": "helps out where another is slow", "event.failed": "failed; it is tried again later", "event.dropped": "failed too often; left alone for now", "event.lied": "sent something false; not used any more",
		"event.new": "done: there is something new", "event.same": "done: nothing newer", "event.file": "the file has nothing newer", "event.pictures": "fetching the pictures of an article", "event.pictured": "the pictures are here", "event.unpictured": "the pictures did not come", "event.nobody": "nobody answered", "event.incomplete": "some of the news has not come through yet", "event.limit": "stopped at your data limit",
		"stage.head": "asking what is newest", "stage.headlines": "headlines", "stage.text": "texts", "stage.images": "pictures", "stage.rest": "the rest", "persecond": " a second",
		"work.from": "from %s", "work.more": "from %s and %s more", "work.left": "about %s left", "work.soon": "less than a minute left",
		"notext.asked": "The text is being fetched, before all others. Load this page again in a little while.", "notext.fetch": "Fetch this text first", "event.cost": "only DNS works, and the texts take", "cost.queries": "about %s DNS questions", "cost.bytes": "%s up, %s down", "lacks": "Texts still missing", "cost": "What they take if only DNS works",
		"live.on": "Follow live", "live.off": "Stop following",

		"forbidden.title": "This page is closed", "forbidden.text": "It opens only by the link that the program shows when it starts, and only on this device.", "forbidden.todo": "Start the program again and use its new link. Nothing has been lost.",
		"gone.lately": "Articles that their publisher took back lately: %s. They were deleted here.", "corrected": "corrected %s",
		"gone.title": "This article was taken back", "gone.text": "Its publisher took it back with the edition of %s, and it was deleted from this device.", "gone.todo": "Everything else is on the front page.",
		"missing.title": "This is not here", "missing.text": "It may have been withdrawn by its publisher, or the address has a mistake in it.", "missing.todo": "Everything else is on the front page.",
		"trouble.title": "Something on this device went wrong", "trouble.text": "A page could not be made. Nothing was sent anywhere, and nothing you did caused this.", "trouble.todo": "Try once more. If it stays like this, close the program and start it again.",
		"damaged.title": "A part of the library is damaged", "damaged.text": "Something stored on this device can’t be read any more. Nothing was sent anywhere, and no false news is shown in its place.", "damaged.todo": "Close the program and start it again. If it stays like this, wipe the library and add your invite again: the news can be fetched anew.",
		"full.title": "The disk is full", "full.text": "There is no room on this device to store anything more.", "full.todo": "Make some room and try again. What has arrived is still here.",
		"panel.title": "That did not work", "panel.text": "The switch could not be moved.", "panel.todo": "Go back and try again.",
	},
}
