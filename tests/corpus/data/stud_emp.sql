insert into stud_emp (name, age, location, salary, manager, gpa, percent) values
    ('jeff', 23, '(8,7.7)', 600, 'sharon', 3.5, null),
    ('cim', 30, '(10.5,4.7)', 400, null, 3.4, null),
    ('linda', 19, '(0.9,6.1)', 100, null, 2.9, null);
