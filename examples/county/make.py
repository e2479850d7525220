#!/usr/bin/env python3
"""Makes what lies beside it: the vendor's order as Excel, the factory's receipts, the list of pupils.

The serial numbers begin with SIM-, so that `forestage simulate run` can switch these machines on. Run it again after a
change; the same numbers give the same files. Needs nothing but Python's own library.
"""

import json
import random
import uuid
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
SCHOOLS = [
    ("BJO", "Bjørnøya skole"), ("KON", "Kongsfjord videregående skole"), ("AAS", "Åsfjell skole"),
    ("LYN", "Lyngstua videregående skole"), ("SOR", "Sørvika skole"), ("NOR", "Nordlys ungdomsskole"),
    ("TRE", "Treøya skole"), ("HAV", "Havblikk videregående skole"), ("FJE", "Fjelldal skole"),
    ("ELV", "Elvemo ungdomsskole"), ("MYR", "Myrvang skole"), ("SKO", "Skogly videregående skole"),
    ("VAR", "Vardøberget skole"), ("OST", "Østhavet skole"), ("VES", "Vesterbotn ungdomsskole"),
    ("SOL", "Solvang skole"),
]
MODELS = [("Acme", "Book 14"), ("Acme", "Book 14"), ("Fjord", "Note 15")]
CLASSES = ["8A", "8A", "8B"]
FIRST = ["Åse", "Øyvind", "Sæbjørn", "Máret", "Ingrid", "Jonas", "Nora", "Emil", "Aina", "Lars", "Sunniva", "Håkon"]
LAST = ["Bjørnstad", "Åsheim", "Sæther", "Hætta", "Øvergård", "Nilsen", "Dahl", "Lie"]
# Excel counts days from the end of 1899: 31 July 2029.
WARRANTY_END = 47330
DATE_STYLE = 1


def machines():
    for number in range(1, 3 * len(SCHOOLS) + 1):
        school = SCHOOLS[(number - 1) // 3]
        vendor, product = MODELS[(number - 1) % 3]
        yield {
            "serial": f"SIM-{number:05}", "tag": f"{number:06}", "vendor": vendor, "product": product,
            "site": school, "class": CLASSES[(number - 1) % 3],
        }


def cell(place, value):
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f'<c r="{place}" s="{DATE_STYLE}"><v>{value[0]}</v></c>'
    if isinstance(value, int):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'


def workbook(rows):
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(cell(f"{chr(65 + at)}{number}", value) for at, value in enumerate(row))
        lines.append(f'<row r="{number}">{cells}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    sheet_type = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    return {
        "[Content_Types].xml": f'{head}<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{sheet_type}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{sheet_type}.worksheet+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet2.xml" ContentType="{sheet_type}.worksheet+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{sheet_type}.styles+xml"/></Types>',
        "_rels/.rels": f'{head}<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'{head}<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="Leveringsvilkår" sheetId="1" r:id="rId1"/><sheet name="Ordre" sheetId="2" r:id="rId2"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'{head}<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="rId2" Type="{office}/worksheet" Target="worksheets/sheet2.xml"/>'
        f'<Relationship Id="rId3" Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'{head}<styleSheet xmlns="{main}"><fonts count="1"><font/></fonts>'
        '<fills count="1"><fill/></fills><borders count="1"><border/></borders>'
        '<cellStyleXfs count="1"><xf/></cellStyleXfs>'
        '<cellXfs count="2"><xf/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
        "xl/worksheets/sheet1.xml": f'{head}<worksheet xmlns="{main}"><sheetData><row r="1">'
        f'{cell("A1", "Levering uke 27, emballasje returneres")}</row></sheetData></worksheet>',
        "xl/worksheets/sheet2.xml": f'{head}<worksheet xmlns="{main}"><sheetData>{"".join(lines)}</sheetData></worksheet>',
    }


def order():
    rows = [
        ["Acme Norge AS"],
        ["Ordrebekreftelse 4711", None, None, "Nordfjell fylkeskommune"],
        [],
        ["Serienr.", "Inventarnr", "Produsent", "Modell", "Skolekode", "Skole", "Klasse", "Ordrenr", "Garanti til", "Pris"],
    ]
    for machine in machines():
        rows.append([
            machine["serial"], machine["tag"], machine["vendor"], machine["product"], machine["site"][0],
            machine["site"][1], machine["class"], 4711, (WARRANTY_END,), 6490,
        ])
    # As it happens when people copy lines.
    rows.append(rows[6][:])
    rows.append(["Antall", 49])
    with zipfile.ZipFile(HERE / "vendor-order.xlsx", "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in workbook(rows).items():
            file.writestr(zipfile.ZipInfo(name, (2026, 6, 1, 8, 0, 0)), text)


def receipt(machine, **change):
    chance = random.Random(machine["serial"])
    receipt = {
        "format": 1, "serial": machine["serial"], "uuid": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "vendor": machine["vendor"], "product": machine["product"], "macs": [f"02:00:00:00:{chance.randrange(256):02x}:01"],
        "disk": "/dev/nvme0n1", "disk-serial": f"SIMDISK{chance.getrandbits(32):08X}", "disk-bytes": 256060514304,
        "prestage": None, "prestage-version": None, "bundle": None, "seconds": chance.randrange(180, 420),
        "result": "staged", "errors": [], "failed-step": None, "agent": "simulated",
    }
    return receipt | change


def write(folder, name, receipt):
    (HERE / folder).mkdir(exist_ok=True)
    text = json.dumps(receipt, ensure_ascii=False, indent=1)
    (HERE / folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def receipts():
    """Two are missing, one failed, one is another model, one was staged twice, one was never ordered."""
    for machine in machines():
        serial = machine["serial"]
        if serial in ("SIM-00014", "SIM-00015"):
            write("receipts-later", serial, receipt(machine))
        elif serial == "SIM-00020":
            failed = {"result": "failed", "failed-step": "disk", "errors": ["cannot write to the disk", "input/output error"]}
            write("receipts", serial, receipt(machine, **failed))
            write("receipts-later", serial, receipt(machine, **{"disk-serial": "SIMDISKNEW0001"}))
        elif serial == "SIM-00031":
            write("receipts", serial, receipt(machine, product="Book 16"))
        else:
            write("receipts", serial, receipt(machine))
    again = list(machines())[6]
    write("receipts", "SIM-00007-again", receipt(again, **{"disk-serial": "SIMDISKNEW0002"}))
    stray = {"serial": "SIM-00999", "vendor": "Acme", "product": "Book 14"}
    write("receipts", "SIM-00999", receipt(stray))


def pupils():
    lines = ["Brukernavn;Navn;Skole;Klasse"]
    for number, machine in enumerate(machines()):
        first, last = FIRST[number % len(FIRST)], LAST[number % len(LAST)]
        lines.append(f"elev{number + 1:04};{first} {last};{machine['site'][0]};{machine['class']}")
    (HERE / "pupils.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode("windows-1252"))


if __name__ == "__main__":
    order()
    receipts()
    pupils()
